"""How numbers are spread, from a stream of them, in little memory."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

# A number is held as a float of 32 bits without the last 13: to a thousandth, whole numbers up to
# 2,048 as they are. So there are some ten thousand different ones at most in a column.
_DROPPED_BITS = 13


class Line(NamedTuple):
    """A threshold: what lies beyond it is rejected.

    Attributes:
        side: rejected are numbers above it (``most``), below it (``least``), or not below it
            (``below``).
    """

    side: Literal["most", "least", "below"]
    value: float

    def beyond(self, values: np.ndarray) -> np.ndarray:
        """Which of the numbers are rejected."""
        if self.side == "most":
            return values > self.value
        return values < self.value if self.side == "least" else values >= self.value

    @property
    def rejects(self) -> str:
        """As a sign: ``>``, ``<`` or ``≥``."""
        return {"most": ">", "least": "<", "below": "≥"}[self.side]


class Distribution:
    """Counts of numbers, exact beyond its lines and of all, to a thousandth elsewhere.

    Attributes:
        count: of numbers; NaN is none.
        beyond: of each line, how many lie beyond it.
    """

    def __init__(self, lines: Sequence[Line] = ()) -> None:
        self.lines = tuple(lines)
        self.count = 0
        self.beyond = [0] * len(self.lines)
        self.smallest, self.largest = float("inf"), float("-inf")
        self._total = 0.0
        self._counts: collections.Counter[int] = collections.Counter()

    def add(self, values: np.ndarray) -> None:
        """Count these numbers too."""
        values = np.asarray(values, np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            return
        self.count += values.size
        self._total += float(values.sum())
        self.smallest = min(self.smallest, float(values.min()))
        self.largest = max(self.largest, float(values.max()))
        for number, line in enumerate(self.lines):
            self.beyond[number] += int(np.count_nonzero(line.beyond(values)))
        codes, counts = np.unique(_codes(values), return_counts=True)
        self._counts.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))

    @property
    def mean(self) -> float:
        """Of all numbers; NaN of none."""
        return self._total / self.count if self.count else float("nan")

    def quantile(self, share: float) -> float:
        """The number that this share of them does not exceed; NaN where there is none."""
        values, counts = self._sorted()
        if not values.size:
            return float("nan")
        place = int(np.searchsorted(np.cumsum(counts), share * self.count))
        value = float(values[min(place, values.size - 1)])
        return min(max(value, self.smallest), self.largest)

    def histogram(self, edges: np.ndarray) -> np.ndarray:
        """How many lie between each two edges; the first and last hold what is outside too."""
        values, counts = self._sorted()
        places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, edges.size - 2)
        return np.bincount(places, weights=counts, minlength=edges.size - 1).astype(np.int64)

    @property
    def is_whole(self) -> bool:
        """Whether all are whole numbers (as far as they are held)."""
        values, _ = self._sorted()
        return bool((values == np.round(values)).all())

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        codes = np.array(sorted(self._counts), np.int64)
        counts = np.array([self._counts[code] for code in codes.tolist()], np.int64)
        return _values(codes), counts


def _codes(values: np.ndarray) -> np.ndarray:
    """Of each number an integer, the larger the larger the number is."""
    with np.errstate(over="ignore"):
        small = np.clip(values, -3e38, 3e38).astype(np.float32)
    sizes = (np.abs(small).view(np.int32) >> _DROPPED_BITS).astype(np.int64)
    return np.where(small < 0, -sizes, sizes)


def _values(codes: np.ndarray) -> np.ndarray:
    sizes = (np.abs(codes) << _DROPPED_BITS).astype(np.int32).view(np.float32).astype(np.float64)
    return np.where(codes < 0, -sizes, sizes)
