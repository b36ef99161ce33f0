"""Which engine answers a search: ScaNN where it runs, exact search in JAX everywhere."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval import scann_engine
from kmm_jax.retrieval.index_files import read_at_random
from kmm_jax.retrieval.settings import Engine, IndexSettings

if TYPE_CHECKING:
    from kmm_jax.retrieval.exact import ExactSearcher

_log = logging.getLogger("kmm_jax.retrieval")
_ASKED = "asked for"


def choose(engine: Engine) -> tuple[Literal["scann", "exact"], str]:
    """The engine to use and, for exact search, why it is not ScaNN.

    Raises:
        UserError: ScaNN was asked for and cannot run here.
    """
    if engine == "exact":
        return "exact", _ASKED
    reason = scann_engine.unavailable()
    if reason is None:
        return "scann", ""
    if engine == "scann":
        raise UserError(
            f"the engine 'scann' was asked for, but {reason}; leave it to 'auto' and exact search "
            "in JAX answers instead"
        )
    return "exact", reason


class Searcher:
    """Searches with ScaNN or exactly, and says which.

    Attributes:
        scann: None where search is exact.
        described: the engine, with the reason where it is not ScaNN.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        scann: scann_engine.ScannSearcher | None,
        described: str,
    ) -> None:
        self._vectors = vectors
        self.scann = scann
        self.described = described

    @functools.cached_property
    def exact(self) -> ExactSearcher:
        """Exact search over the same vectors; JAX is imported when it is first needed."""
        from kmm_jax.retrieval.exact import ExactSearcher

        return ExactSearcher(self._vectors)

    @property
    def approximate(self) -> bool:
        """Whether it looks at less than all of every vector."""
        return self.scann is not None and self.scann.approximate

    def search(self, queries_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int64 (Q, k) and scores float32 (Q, k), best first; ``k`` is at most N."""
        if self.scann is None:
            return self.exact.search(queries_QD, k)
        rows_QK, scores_QK, whole = self.scann.search_telling(queries_QD, k)
        if not whole:
            # The leaves that were searched may hold fewer than k; exact search fills such rows.
            short_Q = (rows_QK < 0).any(axis=1)
            rows_QK[short_Q], scores_QK[short_Q] = self.exact.search(queries_QD[short_Q], k)
        return rows_QK, scores_QK


def open_searcher(
    vectors: np.ndarray,
    settings: IndexSettings,
    engine: Engine,
    scann_folder: Path | None,
    *,
    built_as: str,
) -> Searcher:
    """A searcher for an index's vectors.

    Args:
        settings: of the index, all chosen.
        scann_folder: what ScaNN learnt, if it did.
        built_as: the index's engine, ``scann`` or ``exact: why``.

    Raises:
        UserError: ScaNN was asked for and cannot run here.
    """
    built, _, why = built_as.partition(": ")
    if engine == "auto" and why == _ASKED:
        return _exact(vectors, why)
    chosen, reason = choose(engine)
    if chosen == "exact":
        return _exact(vectors, reason)
    if engine == "auto" and built == "exact" and settings.layout != "brute_force":
        # Learning hashes now would take long; brute force has nothing to learn.
        return _exact(vectors, f"chosen when the index was built, as {why}")
    if scann_folder is None:
        searcher = scann_engine.train(vectors, settings)
    else:
        few = read_at_random(vectors) if settings.rescore == "mapped" else None
        try:
            searcher = scann_engine.load(scann_folder, settings, len(vectors), few)
        except DataError as error:
            if engine == "scann":
                raise
            return _exact(vectors, str(error))
    return Searcher(vectors, searcher, described(settings))


def described(settings: IndexSettings) -> str:
    """ScaNN with its version and how it searches."""
    return f"scann {scann_engine.version()} ({_layout(settings)})"


def _exact(vectors: np.ndarray, reason: str) -> Searcher:
    if _ASKED not in reason:
        _say_once(reason)
    return Searcher(vectors, None, f"exact (JAX): {reason}")


@functools.cache
def _say_once(reason: str) -> None:
    _log.warning("kmm_jax: searching exactly, in JAX, without ScaNN: %s", reason)


def _layout(settings: IndexSettings) -> str:
    if settings.layout == "tree":
        return (
            f"tree, {settings.leaves_to_search:,} of {settings.leaves:,} leaves searched, "
            f"{settings.reorder:,} rescored{_where(settings)}"
        )
    if settings.layout == "hashed":
        return f"hashed, {settings.reorder:,} rescored{_where(settings)}"
    return "brute force"


def _where(settings: IndexSettings) -> str:
    return " from disk" if settings.rescore == "mapped" else ""
