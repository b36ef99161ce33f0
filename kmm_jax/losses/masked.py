"""Masked modelling: pixels of masked patches and masked words, predicted from what is left.

B batch, N patches, T text positions, V vocabulary, P numbers of a patch.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class MaskedSums(NamedTuple):
    """What adds up over the examples of a batch: the loss of the masked places, their number."""

    loss: Float[Array, ""]
    places: Float[Array, ""]

    @property
    def mean(self) -> Float[Array, ""]:
        """Over the masked places; 0 where there is none."""
        return self.loss / jnp.maximum(self.places, 1)


def masked_pixels(
    predicted_BNP: Float[Array, "B N P"],
    pixels_BNP: Float[Array, "B N P"],
    masked_BN: Bool[Array, "B N"],
) -> MaskedSums:
    """Squared error against each patch less its mean, over its deviation.

    Section 4.1 of arXiv 2111.06377.
    """
    target_BNP = pixels_BNP.astype(jnp.float32)
    target_BNP -= target_BNP.mean(axis=-1, keepdims=True)
    target_BNP *= jax.lax.rsqrt(jnp.square(target_BNP).mean(axis=-1, keepdims=True) + 1e-6)
    error_BN = jnp.square(predicted_BNP - target_BNP).mean(axis=-1)
    return MaskedSums(jnp.sum(error_BN * masked_BN), jnp.sum(masked_BN, dtype=jnp.float32))


def masked_words(
    logits_BTV: Float[Array, "B T V"],
    ids_BT: Int[Array, "B T"],
    masked_BT: Bool[Array, "B T"],
) -> MaskedSums:
    """Cross-entropy at the masked words (arXiv 1810.04805, section 3.1)."""
    logits_BTV = logits_BTV.astype(jnp.float32)
    own_BT = jnp.take_along_axis(logits_BTV, ids_BT[..., None], axis=-1)[..., 0]
    loss_BT = jax.nn.logsumexp(logits_BTV, axis=-1) - own_BT
    return MaskedSums(
        jnp.sum(jnp.where(masked_BT, loss_BT, 0)), jnp.sum(masked_BT, dtype=jnp.float32)
    )
