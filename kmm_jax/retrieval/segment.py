"""One immutable piece of a collection: an index, columns beside it, and which rows are gone.

Letters: Q queries, N rows, M rows that may be found, D dimensions, K best.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.errors import DataError
from kmm_jax.files import atomic_directory
from kmm_jax.retrieval import checksums
from kmm_jax.retrieval.filters import Where, matching
from kmm_jax.retrieval.index import Index
from kmm_jax.retrieval.index_build import RECALL, write_index
from kmm_jax.retrieval.settings import Engine, IndexSettings

INDEX, COLUMNS = "index", "columns.parquet"

# Below so many candidates comparing with each of them is faster than searching and leaving out.
_COMPARED_BELOW = 20_000
_BLOCK_ROWS = 8_192


class Segment:
    """Searches the rows of one segment that are not gone.

    Attributes:
        name: of its folder.
        index: ids and vectors.
        columns: N rows, ``id`` the first of them.
        gone: sorted int64 (G,), rows that were deleted or have a newer version elsewhere.
    """

    def __init__(self, name: str, index: Index, columns: pa.Table, gone: np.ndarray) -> None:
        self.name = name
        self.index = index
        self.columns = columns
        self.gone = gone

    def without(self, rows: Iterable[int]) -> Segment:
        """The same with more rows gone; what is loaded is shared."""
        gone = np.union1d(self.gone, np.fromiter(rows, np.int64))
        return Segment(self.name, self.index, self.columns, gone)

    @property
    def alive(self) -> int:
        """How many rows may be found."""
        return len(self.index) - len(self.gone)

    def find(self, id: str) -> int | None:
        """The row of an id; None where it is not there or gone."""
        row = self.index.find(id)
        if row is None or not len(self.gone):
            return row
        place = int(np.searchsorted(self.gone, row))
        return None if place < len(self.gone) and self.gone[place] == row else row

    def rows(self, where: Where | None) -> np.ndarray:
        """The rows (M,) that may be found, in order.

        Raises:
            UserError: the filter does not fit the columns.
        """
        if where is None:
            return np.delete(np.arange(len(self.index)), self.gone)
        return np.setdiff1d(matching(self.columns, where), self.gone, assume_unique=True)

    def search(
        self, queries_QD: np.ndarray, k: int, where: Where | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows int64 (Q, K) and scores float32 (Q, K), best first, K the lesser of k and M.

        With few rows to choose from, all of them are compared; with many, the index is searched for
        so many more as are likely to be left out, and again for more where that was too few.
        """
        count = len(self.index)
        if where is None and not len(self.gone):
            return self.index.nearest(queries_QD, k)
        # Without a filter nothing here is as long as the segment: it is so after any one deletion.
        allowed = None if where is None else self.rows(where)
        left = count - len(self.gone) if allowed is None else len(allowed)
        k = min(k, left)
        if not k:
            return np.zeros((len(queries_QD), 0), np.int64), np.zeros((len(queries_QD), 0))
        few = left <= _COMPARED_BELOW
        wanted = count if few else min(2 * k * count // left + k, k + count - left)
        while wanted <= count // 2:
            rows, scores = self.index.nearest(queries_QD, wanted)
            passes = ~_among(rows, self.gone) if allowed is None else _among(rows, allowed)
            if (passes.sum(axis=1) >= k).all():
                # Stable: of what passes, the best stay first.
                order = np.argsort(~passes, axis=1, kind="stable")[:, :k]
                return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
            wanted *= 4
        return self._compared(queries_QD, k, self.rows(where) if allowed is None else allowed)

    def _compared(
        self, queries_QD: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best of the rows ``allowed``, each compared."""
        rows = np.zeros((len(queries_QD), 0), np.int64)
        scores = np.zeros((len(queries_QD), 0), np.float32)
        for start in range(0, len(allowed), _BLOCK_ROWS):
            some = allowed[start : start + _BLOCK_ROWS]
            scores = np.concatenate([scores, queries_QD @ self.index.vectors_of(some).T], axis=1)
            rows = np.concatenate([rows, np.broadcast_to(some, (len(queries_QD), len(some)))], 1)
            rows, scores = best(rows, scores, k)
        return rows, scores


def _among(rows: np.ndarray, ordered_M: np.ndarray) -> np.ndarray:
    """Whether each of ``rows``, of any shape, is one of ``ordered_M`` (M,)."""
    places = np.searchsorted(ordered_M, rows)
    return ordered_M[np.minimum(places, len(ordered_M) - 1)] == rows


def best(keys_QN: np.ndarray, scores_QN: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` with the highest scores of each row, best first, ties to the lower key."""
    if scores_QN.shape[1] > k:
        # The k-th score first, so that of equal ones the lower keys are kept.
        least = np.partition(scores_QN, -k, axis=1)[:, -k:].min(axis=1, keepdims=True)
        width = int((scores_QN >= least).sum(axis=1).max())
        kept = np.argpartition(-scores_QN, min(width, scores_QN.shape[1]) - 1, axis=1)[:, :width]
        keys_QN = np.take_along_axis(keys_QN, kept, 1)
        scores_QN = np.take_along_axis(scores_QN, kept, 1)
    order = np.lexsort((keys_QN, -scores_QN), axis=1)[:, :k]
    return np.take_along_axis(keys_QN, order, 1), np.take_along_axis(scores_QN, order, 1)


def write_segment(
    folder: Path,
    ids: Sequence[str],
    vectors: Any,
    columns: pa.Table,
    *,
    model_hash: str,
    settings: IndexSettings,
) -> dict[str, Any]:
    """Write a segment, whole or not at all; says what the collection must know of it.

    Args:
        vectors: (N, D), an array or what can be sliced like one.
    """
    with atomic_directory(folder) as whole:
        built = write_index(
            whole / INDEX, ids, vectors, model_hash=model_hash, settings=settings, metadata={}
        )
        pq.write_table(columns, whole / COLUMNS, compression="zstd", write_page_checksum=True)
        about = {"rows": len(ids), "columns": checksums.describe(whole / COLUMNS)}
        if RECALL in built:
            about[RECALL] = built[RECALL]
    return about


def load_segment(
    folder: Path, about: dict[str, Any], *, model_hash: str, engine: Engine, gone: np.ndarray
) -> Segment:
    """Open a segment, checked.

    Raises:
        DataError: something in it is missing or damaged.
    """
    index = Index.load(folder / INDEX, model_hash=model_hash, engine=engine)
    checksums.check(folder / COLUMNS, about["columns"])
    columns = pq.read_table(folder / COLUMNS, page_checksum_verification=True)
    if len(index) != about["rows"] or columns.num_rows != len(index):
        raise DataError(
            f"{folder}: {len(index)} vectors and {columns.num_rows} rows of columns, where the "
            f"collection says {about['rows']}"
        )
    if len(gone) and not 0 <= gone[0] <= gone[-1] < len(index):
        raise DataError(f"{folder}: rows are said to be gone that it does not have")
    return Segment(folder.name, index, columns, gone)
