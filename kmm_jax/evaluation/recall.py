"""Recall at k, any positive counts, in blocks; and what chance gives, exactly.

Q queries, G gallery items, E dimensions, P all positives of all queries.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

# Vectors this near in float32 are the same to a search; such a tie counts against the model.
_TIE = 1e-6
_BLOCK_VALUES = 16 * 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recalls:
    """Recall at each k with what belongs beside it.

    Attributes:
        at: k to the share of queries with a positive among the first k.
        chance: k to what a gallery in random order gives, exactly, for these positives.
        queries, gallery: how many there are.
        before_Q: for each query, how many items that are no positive of it come before its nearest
            positive.
    """

    at: dict[int, float]
    chance: dict[int, float]
    queries: int
    gallery: int
    before_Q: np.ndarray = dataclasses.field(repr=False, compare=False)


def recalls(
    query_QE: np.ndarray,
    gallery_GE: np.ndarray,
    positives: Sequence[np.ndarray],
    *,
    ks: Sequence[int] = (1, 5, 10),
    block_values: int = _BLOCK_VALUES,
) -> Recalls:
    """Search the gallery with every query by inner product.

    A query counts at k if fewer than k items that are no positive of it lie at least as near as
    its nearest positive. Ties within 1e-6 count against it, so a model whose vectors are all equal
    finds nothing.

    Args:
        positives: for each query, the numbers of its positives in the gallery: at least one,
            each once.
        block_values: most similarities held at a time (float32).

    Raises:
        ValueError: a query without positive, or not one entry per query.
    """
    if len(positives) != len(query_QE):
        raise ValueError(f"{len(query_QE)} queries, but positives for {len(positives)}")
    counts_Q = np.asarray([len(found) for found in positives], np.int64)
    if not len(counts_Q) or not counts_Q.all():
        raise ValueError("every query needs at least one positive")
    before_Q = _negatives_before(query_QE, gallery_GE, positives, block_values)
    return Recalls(
        at={k: float((before_Q < k).mean()) for k in ks},
        chance={k: chance(counts_Q, len(gallery_GE), k) for k in ks},
        queries=len(query_QE),
        gallery=len(gallery_GE),
        before_Q=before_Q,
    )


def chance(positives_Q: np.ndarray, gallery: int, k: int) -> float:
    """The mean share of random orders of ``gallery`` items with a positive among the first ``k``.

    For p positives it is 1 - C(gallery - p, k) / C(gallery, k), as a product of k ratios.
    """
    counts, repeats = np.unique(positives_Q, return_counts=True)
    drawn = np.arange(min(k, gallery))
    # The i-th draw misses with (gallery - p - i) / (gallery - i); nothing left to miss is 0.
    left = np.maximum(gallery - counts[:, None] - drawn, 0)
    misses = (left / (gallery - drawn)).prod(axis=1)
    return float(((1 - misses) * repeats).sum() / repeats.sum())


def _negatives_before(
    query_QE: np.ndarray, gallery_GE: np.ndarray, positives: Sequence[np.ndarray], values: int
) -> np.ndarray:
    """For each query, how many of its negatives are at least as near as its nearest positive."""
    columns = min(len(gallery_GE), max(math.isqrt(values), 1))
    rows = max(values // columns, 1)
    before_Q = np.zeros(len(query_QE), np.int64)
    for start in range(0, len(query_QE), rows):
        block_BE = query_QE[start : start + rows]
        found = positives[start : start + rows]
        row_P = np.repeat(np.arange(len(found)), [len(one) for one in found])
        item_P = np.concatenate(found)
        best_B = _best(block_BE, gallery_GE, row_P, item_P, values)
        for first in range(0, len(gallery_GE), columns):
            similarity_BC = block_BE @ gallery_GE[first : first + columns].T
            here_P = (item_P >= first) & (item_P < first + columns)
            similarity_BC[row_P[here_P], item_P[here_P] - first] = -np.inf
            near_BC = similarity_BC >= best_B[:, None] - _TIE
            before_Q[start : start + len(found)] += near_BC.sum(axis=1)
    return before_Q


def _best(
    block_BE: np.ndarray,
    gallery_GE: np.ndarray,
    row_P: np.ndarray,
    item_P: np.ndarray,
    values: int,
) -> np.ndarray:
    """Each query's similarity to its nearest positive."""
    best_B = np.full(len(block_BE), -np.inf, np.float32)
    step = max(values // block_BE.shape[1], 1)
    for start in range(0, len(row_P), step):
        row, item = row_P[start : start + step], item_P[start : start + step]
        np.maximum.at(best_B, row, np.einsum("pe,pe->p", block_BE[row], gallery_GE[item]))
    return best_B
