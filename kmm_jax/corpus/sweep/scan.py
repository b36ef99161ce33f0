"""The similarities in a set of shards: how they are spread, and the best of each row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kmm_jax.data.bad_rows import BadRowError
from kmm_jax.data.selection import agreeing
from kmm_jax.data.sources import ShardSource
from kmm_jax.errors import DataError

BINS = 200
"""Of the histograms, from -1 to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scanned:
    """What is known of one field's similarities.

    Attributes:
        best_N: of each row, its text that agrees most; -inf where it has no such text.
        counts_B: texts by similarity, in ``BINS`` of [-1, 1].
    """

    best_N: np.ndarray
    counts_B: np.ndarray

    def available(self, least: float | None) -> int:
        """How many rows have a text that is not below the threshold."""
        return int(np.count_nonzero(self._passing(least)))

    def rows(self, least: float | None, count: int, seed: int) -> np.ndarray:
        """``count`` of those rows: at two thresholds the same ones as far as they pass both."""
        order_N = np.random.default_rng(seed).permutation(len(self.best_N))
        return order_N[self._passing(least)[order_N]][:count]

    def _passing(self, least: float | None) -> np.ndarray:
        return np.isfinite(self.best_N) if least is None else self.best_N >= least


def scan(
    source: ShardSource, fields: Sequence[str], progress: Callable[[int, int], None]
) -> Mapping[str, Scanned]:
    """Read every record, and no picture.

    Raises:
        DataError: no text of a field has a similarity.
    """
    best = {field: np.full(len(source), -np.inf) for field in fields}
    counts = {field: np.zeros(BINS, np.int64) for field in fields}
    for number in range(len(source)):
        if number % 10_000 == 0:
            progress(number, len(source))
        try:
            record = source.record(number)
        except BadRowError:
            continue  # training passes it over as well
        for field in fields:
            found = [score for _, _, score in agreeing(record, field, None) if score is not None]
            if found:
                best[field][number] = max(found)
                places = np.clip((np.asarray(found) + 1) / 2 * BINS, 0, BINS - 1).astype(int)
                np.add.at(counts[field], places, 1)
    progress(len(source), len(source))
    for field in fields:
        if not counts[field].any():
            raise DataError(
                f"{source.name}: no {field} has a similarity; build the corpus with "
                "similarity.model=PATH and without thresholds, or leave the field out (--fields)"
            )
    return {field: Scanned(best_N=best[field], counts_B=counts[field]) for field in fields}


def default_thresholds(scanned: Mapping[str, Scanned]) -> tuple[float | None, ...]:
    """None (all texts), and where 10, 25, 50 and 75 percent of the rows have no better text."""
    best = np.concatenate([of_field.best_N for of_field in scanned.values()])
    found = np.quantile(best[np.isfinite(best)], (0.1, 0.25, 0.5, 0.75))
    return (None, *sorted({round(float(value), 3) for value in found}))
