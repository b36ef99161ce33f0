"""Queries with known answers: how much a search finds of them, and how long it takes.

Letters: Q queries, N rows, D dimensions, K best.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.vectors import UnitRows, unit_rows

K = 10
BLOCK_ROWS = 8_192  # compared at once: what memory a trial needs beside its own
_AT_ONCE = 2_048
_ROUNDS = 3

Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


class Trial:
    """Queries and their true nearest, by exact search over the float32 vectors that were given.

    Args:
        queries_QD: unit vectors.
        true_QK: rows of their nearest, themselves not among them.
        own_Q: the row that each query is; -1 where it is none.
    """

    def __init__(self, queries_QD: np.ndarray, true_QK: np.ndarray, own_Q: np.ndarray) -> None:
        self._queries, self._true, self._own = queries_QD, true_QK, own_Q
        self.k = true_QK.shape[1]

    @classmethod
    def of_rows(cls, given: UnitRows, rows_Q: np.ndarray) -> Trial:
        """Some of the vectors as queries, each without itself among its nearest."""
        queries_QD = np.concatenate([given[row : row + 1] for row in rows_Q.tolist()])
        k = min(K, len(given) - 1)
        true_QK = _exact(given, queries_QD, k + 1)
        return cls(queries_QD, _without(true_QK, rows_Q, k), rows_Q)

    @classmethod
    def of_queries(cls, given: UnitRows, queries: np.ndarray) -> Trial:
        """Queries (Q, D) of their own.

        Raises:
            DataError: of another dimension, zero or not finite.
            UserError: none.
        """
        queries_QD = unit_rows(queries, "query")
        if not len(queries_QD):
            raise UserError("settings are tried on queries, and there are none")
        if queries_QD.shape[1] != given.shape[1]:
            raise DataError(
                f"the queries have {queries_QD.shape[1]} dimensions, the vectors {given.shape[1]}; "
                "both must come from the same model"
            )
        true_QK = _exact(given, queries_QD, min(K, len(given)))
        return cls(queries_QD, true_QK, np.full(len(queries_QD), -1))

    def __len__(self) -> int:
        return len(self._queries)

    def __getitem__(self, which: slice) -> Trial:
        return Trial(self._queries[which], self._true[which], self._own[which])

    def recall(self, search: Search) -> tuple[float, float]:
        """The mean over queries of the share of the true nearest found, and its standard error."""
        if not self.k or not len(self):
            return 1.0, 0.0
        found_QK, _ = search(self._queries, self.k + self._spare)
        found_QK = _without(found_QK, self._own, self.k)
        shares = [
            len(np.intersect1d(found, true)) / self.k
            for found, true in zip(found_QK, self._true, strict=True)
        ]
        return float(np.mean(shares)), float(np.std(shares) / np.sqrt(len(shares)))

    def seconds(self, searches: list[Search]) -> list[float]:
        """Of this thread's processor for one query, each asked by itself.

        The searches take turns, so that what else the machine does slows all of them, and the
        fastest of their rounds counts.
        """
        rounds = [[self._timed(search) for search in searches] for _ in range(_ROUNDS)]
        return [min(times) for times in zip(*rounds, strict=True)]

    @property
    def _spare(self) -> int:
        """One more is searched for where queries find themselves."""
        return int((self._own >= 0).any())

    def _timed(self, search: Search) -> float:
        started = time.thread_time()
        for query_D in self._queries:
            search(query_D[None], self.k + self._spare)
        return (time.thread_time() - started) / len(self)


def _exact(given: UnitRows, queries_QD: np.ndarray, k: int) -> np.ndarray:
    from kmm_jax.retrieval.exact import ExactSearcher

    # What is given is brought to length 1 as it is read, best for many queries at once.
    searcher = ExactSearcher(given, block_rows=BLOCK_ROWS, kept_bytes=0, at_once=_AT_ONCE)
    return searcher.search(queries_QD, k)[0]


def _without(rows_QK: np.ndarray, own_Q: np.ndarray, k: int) -> np.ndarray:
    """The first ``k`` (Q, k) of each that are not the query itself."""
    others = rows_QK != own_Q[:, None]
    # Stable, so that the best stay first; the query itself goes last.
    order = np.argsort(~others, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows_QK, order, 1)
