"""Exact top-k in JAX, over vectors that need not fit on the device.

Letters: Q queries, N vectors, B vectors in a block, D dimensions, K best.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_BLOCK_ROWS = 32_768
_QUERIES = 256
_KEPT_BYTES = 1 << 30


class ExactSearcher:
    """The best rows by dot product, ties to the lower row.

    The vectors are read in blocks, the queries in groups, both filled up to a power of two: memory
    stays bounded and few shapes are compiled, whatever the numbers of queries and rows. Up to
    1 GiB of float32 vectors stay on the device; more are sent anew for each group of queries.

    Args:
        kept_bytes: of vectors, up to which they stay; 0 for one group of queries.
        at_once: queries of a group; each group goes through all vectors.
        vectors_ND: float32, or bfloat16 that is computed with in float32; may be memory-mapped,
            or else what has a length and can be sliced.
    """

    def __init__(
        self,
        vectors_ND: Any,
        *,
        block_rows: int = _BLOCK_ROWS,
        kept_bytes: int = _KEPT_BYTES,
        at_once: int = _QUERIES,
    ) -> None:
        self._vectors = vectors_ND
        self._at_once = at_once
        self._block_rows = min(_power_of_two(len(vectors_ND)), block_rows)
        self._kept_bytes = kept_bytes
        self._starts = range(0, len(vectors_ND), self._block_rows)
        self._kept: dict[int, jax.Array] = {}

    def search(self, queries_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int64 (Q, k) and scores float32 (Q, k), best first; ``k`` is at most N."""
        if not len(queries_QD):
            return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
        groups = [
            self._group(queries_QD[start : start + self._at_once], k)
            for start in range(0, len(queries_QD), self._at_once)
        ]
        rows, scores = (np.concatenate(parts) for parts in zip(*groups, strict=True))
        return rows, scores

    def _group(self, queries_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        count = len(queries_QD)
        queries = jnp.asarray(_filled(queries_QD, _power_of_two(count)))
        shape = (len(queries), _power_of_two(k))
        best = (jnp.full(shape, -jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32))
        for start in self._starts:
            rows = min(self._block_rows, len(self._vectors) - start)
            best = _better(best, queries, self._block(start), start, rows)
        scores, rows_QK = (np.asarray(part)[:count, :k] for part in best)
        return rows_QK.astype(np.int64), scores

    def _block(self, start: int) -> jax.Array:
        if start in self._kept:
            return self._kept[start]
        values = np.asarray(self._vectors[start : start + self._block_rows], np.float32)
        block = jnp.asarray(_filled(values, self._block_rows))
        if 4 * self._vectors.size <= self._kept_bytes:
            self._kept[start] = block
        return block


@functools.partial(jax.jit, donate_argnums=0)
def _better(
    best: tuple[jax.Array, jax.Array],
    queries_QD: jax.Array,
    block_BD: jax.Array,
    start: jax.Array | int,
    rows: jax.Array | int,
) -> tuple[jax.Array, jax.Array]:
    """The best so far and the first ``rows`` of a block, whose first row is number ``start``."""
    best_scores_QK, best_rows_QK = best
    k, block_rows = best_scores_QK.shape[1], len(block_BD)
    # Accelerators multiply in fewer bits unless told otherwise; that would not be exact.
    scores_QB = jnp.matmul(queries_QD, block_BD.T, precision=lax.Precision.HIGHEST)
    scores_QB = jnp.where(jnp.arange(block_rows) < rows, scores_QB, -jnp.inf)
    scores_QK, places_QK = lax.top_k(scores_QB, min(k, block_rows))
    both_scores = jnp.concatenate([best_scores_QK, scores_QK], axis=1)
    both_rows = jnp.concatenate([best_rows_QK, places_QK + start], axis=1)
    scores_QK, places_QK = lax.top_k(both_scores, k)
    return scores_QK, jnp.take_along_axis(both_rows, places_QK, axis=1)


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def _filled(rows_ND: np.ndarray, count: int) -> np.ndarray:
    missing = count - len(rows_ND)
    if not missing:
        return rows_ND
    return np.concatenate([rows_ND, np.zeros((missing, rows_ND.shape[1]), rows_ND.dtype)])
