"""A CoCa's text decoder read one token at a time, over a key-value cache.

B batch, Q queries, D width, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Float, Int

from kmm_jax.models.coca.modeling import TextDecoder
from kmm_jax.models.transformer import KeyValue


class DecoderCache(NamedTuple):
    """Keys and values of every decoder layer, a tuple of layers each."""

    unimodal: tuple[KeyValue, ...]
    multimodal: tuple[KeyValue, ...]
    image: tuple[KeyValue, ...]


class TokenDecoder:
    """The two halves with their layers unstacked, which is done once, before the loop over tokens.

    The slices live beside the stacks they come from: a second copy of the decoder's weights while a
    caption is made, for several times the speed (``python -m tools.bench caption_decoding``).
    """

    def __init__(self, text: TextDecoder) -> None:
        self._text = text
        self._unimodal = text.unimodal.unstack()
        self._multimodal = text.multimodal.unstack()

    def start(self, image_BQD: Float[Array, "B Q D"], length: int) -> DecoderCache:
        """An empty cache for ``length`` tokens over these images."""
        batch = image_BQD.shape[0]
        return DecoderCache(
            unimodal=tuple(layer.empty_cache(batch, length) for layer in self._unimodal),
            multimodal=tuple(layer.empty_cache(batch, length) for layer in self._multimodal),
            image=tuple(layer.cross_context(image_BQD) for layer in self._multimodal),
        )

    def step(
        self, ids_B: Int[Array, "B"], position: Array, cache: DecoderCache
    ) -> tuple[Float[Array, "B V"], DecoderCache]:
        """Read the token at ``position``; float32 logits of the next, and the longer cache."""
        x_B1D = self._text.embedding(ids_B[:, None], start=position)
        unimodal, multimodal = [], []
        for layer, seen in zip(self._unimodal, cache.unimodal, strict=True):
            x_B1D, longer = layer.step(x_B1D, seen, position)
            unimodal.append(longer)
        for layer, seen, image in zip(self._multimodal, cache.multimodal, cache.image, strict=True):
            x_B1D, longer = layer.step(x_B1D, seen, position, image)
            multimodal.append(longer)
        longer_cache = DecoderCache(tuple(unimodal), tuple(multimodal), cache.image)
        return self._text.predict(x_B1D)[:, 0], longer_cache
