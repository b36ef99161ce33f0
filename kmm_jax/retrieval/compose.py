"""Queries from texts and pictures together, and rankings from several searches.

D dimensions of the vectors.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, TypeVar

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.retrieval.vectors import unit_rows

_Id = TypeVar("_Id", bound=Hashable)

Form = Literal["directions", "points"]
"""What a text is in a sum: the way from a text that says nothing to it, or its vector."""

NEUTRAL = (
    "사진", "이미지", "그림", "물건", "것", "상품", "제품", "장소", "사람", "음식", "모습", "여기",
)  # fmt: skip
"""Texts that say next to nothing; the mean of their vectors is where directions begin."""

MOST_TERMS = 16
_LEAST_NORM = 1e-6


def compose(
    text: np.ndarray | None, image: np.ndarray | None, text_weight: float = 0.5
) -> np.ndarray:
    """The weighted sum of a text's and an image's unit vector, of length 1 again.

    Args:
        text, image: (D,) or (N, D), of the same shape; with one of them None the other is taken.
        text_weight: from 0 (the image alone) to 1 (the text alone).

    Returns:
        float32 of the shape given.

    Raises:
        UserError: neither given, shapes that differ, a weight outside [0, 1], or vectors that
            cancel each other.
        DataError: a vector that is zero or not finite.
    """
    if not 0 <= text_weight <= 1:
        raise UserError(f"text_weight must be from 0 to 1, found {text_weight}")
    given = ((text, text_weight), (image, 1 - text_weight))
    parts = [(np.asarray(vector), weight) for vector, weight in given if vector is not None]
    if not parts:
        raise UserError("a query needs a text, an image or both")
    if len(parts) == 1:
        parts = [(parts[0][0], 1.0)]
    shape = parts[0][0].shape
    if any(vector.shape != shape for vector, _ in parts):
        raise UserError(
            f"the text's vector has shape {parts[0][0].shape}, the image's {parts[1][0].shape}; "
            "both must come from one model, one text for each image"
        )
    rows = [np.atleast_2d(vector) for vector, _ in parts]
    return _summed(rows, [weight for _, weight in parts], "change text_weight").reshape(shape)


def combine(
    vectors: Sequence[np.ndarray],
    weights: Sequence[float],
    *,
    are_texts: Sequence[bool] | None = None,
    form: Form = "points",
    neutral: np.ndarray | None = None,
) -> np.ndarray:
    """The weighted sum of unit vectors, of length 1 again; weights may be negative.

    A text's vector also says that it is a text, which no picture is more or less than another. As a
    direction it is ``unit(text - neutral)``: of ``image - red + blue`` that takes away nothing (as
    red and blue share the neutral part), and of ``image + floral`` what would drown the picture.
    Measured on pictures of which one attribute is changed: ``docs/results/composed.md``.

    Args:
        vectors: each (D,), from one model; brought to length 1.
        weights: one for each.
        are_texts: which of them are texts; needed for directions.
        form: what texts are in the sum.
        neutral: (D,), the mean vector of `NEUTRAL`; for directions.

    Returns:
        (D,) float32.

    Raises:
        UserError: no vector, not as many weights, shapes that differ, a weight that is no number,
            or vectors that cancel each other.
        DataError: a vector that is zero or not finite.
    """
    if not len(vectors):
        raise UserError("a query needs at least one text or image")
    if len(vectors) > MOST_TERMS + 1:
        raise UserError(f"a query has at most {MOST_TERMS} terms, got {len(vectors):,}")
    if len(weights) != len(vectors):
        raise UserError(f"{len(vectors)} vectors, but {len(weights)} weights; give each its own")
    if not np.isfinite(np.asarray(weights, np.float64)).all():
        raise UserError(f"the weights of a query must be numbers, got {list(weights)}")
    rows = [np.asarray(vector)[None] for vector in vectors]
    if any(row.shape != rows[0].shape for row in rows) or rows[0].ndim != 2:
        raise UserError("the vectors of a query must be of one dimension; all from one model")
    if form == "directions":
        if are_texts is None or len(are_texts) != len(vectors) or neutral is None:
            raise ValueError("directions need to know which vectors are texts, and the neutral one")
        rows = [
            _direction(row, neutral) if is_text else row
            for row, is_text in zip(rows, are_texts, strict=True)
        ]
    return _summed(rows, weights, "change their weights")[0]


def _direction(text_1D: np.ndarray, neutral_D: np.ndarray) -> np.ndarray:
    way_1D = unit_rows(text_1D, "query") - np.asarray(neutral_D, np.float32)
    if np.linalg.norm(way_1D) < _LEAST_NORM:
        raise UserError("a text of the query says no more than 'a picture'; say what to look for")
    return way_1D


def _summed(rows: Sequence[np.ndarray], weights: Sequence[float], advice: str) -> np.ndarray:
    """(N, D) of length 1: the sum of rows (N, D), each of length 1, times their weights."""
    # By the largest, so that only their ratios count and nothing overflows.
    most = max((abs(weight) for weight in weights), default=0.0)
    if most == 0:
        raise UserError(f"all weights of a query are 0; {advice}")
    if len(rows) == 1 and weights[0] > 0:
        return unit_rows(rows[0], "query")
    mixed_ND = sum(
        unit_rows(row, "query") * np.float32(weight / most)
        for row, weight in zip(rows, weights, strict=True)
    )
    assert isinstance(mixed_ND, np.ndarray)
    if np.linalg.norm(mixed_ND, axis=1).min(initial=1.0) < _LEAST_NORM:
        raise UserError(f"the parts of a query point in opposite directions and cancel; {advice}")
    return unit_rows(mixed_ND, "query")


def fuse(rankings: Sequence[Sequence[_Id]], k: int = 60) -> list[tuple[_Id, float]]:
    """Reciprocal rank fusion: ids with their sum of ``1 / (k + rank)``, best first.

    Ranks count from 1; an id that a ranking repeats counts at its first place there. Ties stand in
    the order in which the ids first appear. Source: Cormack, Clarke and Buettcher, SIGIR 2009.

    Raises:
        UserError: ``k`` is negative.
    """
    if k < 0:
        raise UserError(f"the fusion constant k must not be negative, found {k}")
    scores: dict[_Id, float] = {}
    for ranking in rankings:
        for rank, each in enumerate(dict.fromkeys(ranking), start=1):
            scores[each] = scores.get(each, 0.0) + 1 / (k + rank)
    return sorted(scores.items(), key=lambda item: -item[1])
