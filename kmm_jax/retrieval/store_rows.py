"""An export's rows read as they are asked for, so that it may be larger than memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval import checksums, store


class StoredRows:
    """Ids and vectors of some of an export's parts; one part is in memory at a time.

    A part is checked against the manifest when it is first read.

    Attributes:
        shape: (N, D).
        manifest: of the export.

    Args:
        shard: ``(I, N)``: the I-th, from 0, of N stretches of the parts, alike in number.

    Raises:
        DataError: no whole export.
        UserError: fewer parts than shards.
    """

    ndim = 2

    def __init__(self, folder: str | os.PathLike[str], shard: tuple[int, int] = (0, 1)) -> None:
        self.folder = Path(folder)
        self.manifest: dict[str, Any] = store.read_manifest(self.folder)
        parts = self.manifest["parts"]
        number, count = shard
        if len(parts) < count:
            raise UserError(
                f"{self.folder} has {len(parts):,} parts, too few for {count:,} shards: take fewer"
            )
        first, last = number * len(parts) // count, (number + 1) * len(parts) // count
        self._parts: list[dict[str, Any]] = parts[first:last]
        self._ends = np.cumsum([part["rows"] for part in self._parts])
        self._checked: set[int] = set()
        self._open: tuple[int, np.ndarray] | None = None
        self.shape = (int(self._ends[-1]), int(self.manifest["dim"]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: slice) -> np.ndarray:
        """Vectors as they are kept, float32 or bfloat16."""
        found = []
        for number, first, last in self._within(*where.indices(len(self))[:2]):
            found.append(self._vectors(number)[first:last])
        if not found:
            return np.zeros((0, self.shape[1]), np.float32)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def ids(self, start: int, stop: int) -> list[str]:
        """The ids of the rows from ``start`` to before ``stop``."""
        found: list[str] = []
        for number, first, last in self._within(start, stop):
            path = self._checked_path(number)
            try:
                column = pq.read_table(path, columns=["id"]).column("id")
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"{path} is damaged: {error}; run kmm embed again") from error
            found += column.slice(first, last - first).to_pylist()
        return found

    def _within(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Each part with rows among these: its number, and from where to before where in it."""
        for number in range(int(np.searchsorted(self._ends, start, "right")), len(self._parts)):
            end = int(self._ends[number])
            begin = end - self._parts[number]["rows"]
            if begin >= stop:
                return
            if begin < end:
                yield number, max(start, begin) - begin, min(stop, end) - begin

    def _checked_path(self, number: int) -> Path:
        path = self.folder / self._parts[number]["file"]
        if number not in self._checked:
            checksums.check(path, self._parts[number])
            self._checked.add(number)
        return path

    def _vectors(self, number: int) -> np.ndarray:
        if self._open is None or self._open[0] != number:
            self._open = None  # before the next is read
            path = self._checked_path(number)
            table = store.read_part(path, self.shape[1])
            if table.num_rows != self._parts[number]["rows"]:
                raise DataError(f"{path}: {table.num_rows} rows, not as {store.MANIFEST} says")
            self._open = number, store.matrix(table, self.shape[1])
        return self._open[1]

    def release(self) -> None:
        """Let go of the part in memory."""
        self._open = None
