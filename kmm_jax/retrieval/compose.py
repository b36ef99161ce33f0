"""Queries from a text and a picture together, and rankings from several searches."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.retrieval.vectors import unit_rows

_Id = TypeVar("_Id", bound=Hashable)


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
    parts = [
        (np.asarray(vector), weight)
        for vector, weight in ((text, text_weight), (image, 1 - text_weight))
        if vector is not None
    ]
    if not parts:
        raise UserError("a query needs a text, an image or both")
    shape = parts[0][0].shape
    if any(vector.shape != shape for vector, _ in parts):
        raise UserError(
            f"the text's vector has shape {parts[0][0].shape}, the image's {parts[1][0].shape}; "
            "both must come from one model, one text for each image"
        )
    units = [unit_rows(np.atleast_2d(vector), "query") for vector, _ in parts]
    if len(parts) == 1:
        return units[0].reshape(shape)
    mixed_ND = sum(
        unit * np.float32(weight) for unit, (_, weight) in zip(units, parts, strict=True)
    )
    assert isinstance(mixed_ND, np.ndarray)
    if np.linalg.norm(mixed_ND, axis=1).min(initial=1.0) < 1e-6:
        raise UserError("the text and the image point in opposite directions; change text_weight")
    return unit_rows(mixed_ND, "query").reshape(shape)


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
