"""Masked modelling: pixels of masked patches and masked words, predicted from what is left.

B batch, N patches, T text positions, V vocabulary, P numbers of a patch.
"""

from __future__ import annotations

from collections.abc import Callable
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
    vector_BTD: Float[Array, "B T D"],
    logits: Callable[[Float[Array, "B D"]], Float[Array, "B V"]],
    ids_BT: Int[Array, "B T"],
    masked_BT: Bool[Array, "B T"],
) -> MaskedSums:
    """Cross-entropy at the masked words (arXiv 1810.04805, section 3.1).

    The logits of one position at a time are in memory, and computed again for the gradient: those
    of every position would be the largest array of the whole step.

    Args:
        vector_BTD: what the words are told from.
        logits: turns vectors into a number for each word of the vocabulary.
        ids_BT: the words that were there.
        masked_BT: which of them are to be told.
    """

    @jax.checkpoint
    def position(
        total: Float[Array, ""],
        at: tuple[Float[Array, "B D"], Int[Array, "B"], Bool[Array, "B"]],
    ) -> tuple[Float[Array, ""], None]:
        vector_BD, ids_B, masked_B = at
        logits_BV = logits(vector_BD).astype(jnp.float32)
        own_B = jnp.take_along_axis(logits_BV, ids_B[:, None], axis=-1)[:, 0]
        loss_B = jax.nn.logsumexp(logits_BV, axis=-1) - own_B
        return total + jnp.sum(jnp.where(masked_B, loss_B, 0)), None

    along_T = (vector_BTD.swapaxes(0, 1), ids_BT.T, masked_BT.T)
    loss, _ = jax.lax.scan(position, jnp.zeros((), jnp.float32), along_T)
    return MaskedSums(loss, jnp.sum(masked_BT, dtype=jnp.float32))
