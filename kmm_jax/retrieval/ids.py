"""Ids as Arrow holds them: their own bytes and 8 more each, where Python texts take 60 more."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa

_AT_ONCE = 65_536
_MANY = 256  # texts at once, for which gathering them pays


class Ids(Sequence[str]):
    """N different texts that are found by their places, and their places by them.

    Finding places keeps 16 bytes a text, from the first time on.

    Args:
        texts: a column of them.
    """

    def __init__(self, texts: pa.ChunkedArray) -> None:
        self._texts: pa.Array = pa.concat_arrays(texts.cast(pa.large_string()).chunks or [_EMPTY])

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step == 1:
                return list(self._texts.slice(start, max(0, stop - start)).to_pylist())
            return [self[each] for each in range(start, stop, step)]
        return str(self._texts[int(place)].as_py())

    def at(self, places_QK: np.ndarray) -> list[list[str]]:
        """The texts at places (Q, K), cut from Arrow's bytes: a search has some at each call."""
        if places_QK.size >= _MANY:
            return self._many(places_QK)
        text, ends = self._cut
        return [
            [str(text[ends[place] : ends[place + 1]], "utf-8") for place in row]
            for row in places_QK.tolist()
        ]

    def _many(self, places_QK: np.ndarray) -> list[list[str]]:
        """As `at`, from bytes that are gathered first; of ASCII they are decoded but once."""
        found = self._texts.take(pa.array(places_QK.ravel()))
        _, ends, content = found.buffers()
        places = np.frombuffer(ends, np.int64)[found.offset :][: len(found) + 1].tolist()
        raw = content.to_pybytes() if content is not None else b""
        if raw.isascii():
            text = raw.decode("ascii")
            flat = [text[start:end] for start, end in itertools.pairwise(places)]
        else:
            flat = [raw[start:end].decode("utf-8") for start, end in itertools.pairwise(places)]
        count, width = places_QK.shape
        return [flat[row * width : (row + 1) * width] for row in range(count)]

    @functools.cached_property
    def _cut(self) -> tuple[memoryview, memoryview]:
        """UTF-8 of all texts, and where each begins, N + 1 numbers; both Arrow's own.

        Single numbers of a memoryview cost less than those of an array.
        """
        _, ends, text = self._texts.buffers()
        places = memoryview(ends).cast("B").cast("q")
        first = self._texts.offset
        return memoryview(text if text is not None else b""), places[first : first + len(self) + 1]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._texts.slice(start, _AT_ONCE).to_pylist()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def find(self, text: str) -> int | None:
        """The place of a text; None where it is not there."""
        hashes, places = self._by_hash
        wanted = hash(text)
        at = int(np.searchsorted(hashes, wanted))
        while at < len(hashes) and hashes[at] == wanted:
            if self[int(places[at])] == text:
                return int(places[at])
            at += 1
        return None

    @functools.cached_property
    def _by_hash(self) -> tuple[np.ndarray, np.ndarray]:
        """Python's hashes of the texts int64 (N,), sorted, and the places (N,) they stand at."""
        hashes = hashes_of(self, len(self))
        places = np.argsort(hashes, kind="stable")
        return hashes[places], places


def hashes_of(texts: Sequence[str] | Iterator[str], count: int) -> np.ndarray:
    """Hashes int64 (N,) of texts, good for this process alone: Python's differ in each."""
    return np.fromiter(map(hash, texts), np.int64, count)


_EMPTY = pa.array([], pa.large_string())
