"""A filter over generated pictures: pluggable, and off unless one is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from kmm_jax.errors import UserError


class SafetyFilter(Protocol):
    """Says which pictures must not be shown."""

    def flagged(self, images: Sequence[np.ndarray]) -> Sequence[bool]:
        """One answer a picture, (H, W, 3) uint8."""
        ...


class ConceptFilter:
    """Flags pictures whose CLIP vector is too near to a concept's.

    This is how Stable Diffusion's own checker works (its 17 concepts are published as vectors of
    CLIP L/14); here the concepts are texts, in any language the model reads, or vectors.
    """

    def __init__(self, model: Any, thresholds: dict[str, float]):
        """``model`` is what ``kmm_jax.load`` gives; ``thresholds`` are cosines by concept.

        Raises:
            UserError: no concept.
        """
        if not thresholds:
            raise UserError("a safety filter needs concepts to look for")
        self._model = model
        self._limits = np.asarray(list(thresholds.values()))
        vectors = np.asarray(model.embed_text(list(thresholds)))
        self._concepts_CE = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def flagged(self, images: Sequence[np.ndarray]) -> list[bool]:
        """Whether any concept is nearer than its threshold."""
        vectors = np.asarray(self._model.embed_image([Image.fromarray(each) for each in images]))
        return [bool(each) for each in (vectors @ self._concepts_CE.T > self._limits).any(axis=1)]


def blackened(
    images: np.ndarray, safety: SafetyFilter | None, told: Callable[[int], None]
) -> tuple[np.ndarray, list[bool]]:
    """The pictures with flagged ones black, and which those are; ``told`` how many."""
    if safety is None:
        return images, [False] * len(images)
    flags = [bool(each) for each in safety.flagged(list(images))]
    if any(flags):
        images = np.where(np.asarray(flags)[:, None, None, None], 0, images).astype(np.uint8)
        told(sum(flags))
    return images, flags
