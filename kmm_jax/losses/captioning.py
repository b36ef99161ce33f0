"""The captioning loss: each token predicted from the ones before it and the image.

B batch, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def caption_targets(
    ids_BT: Int[Array, "B T"], *, never: Sequence[int], only_BT: Bool[Array, "B T"] | None = None
) -> tuple[Int[Array, "B T-1"], Bool[Array, "B T-1"]]:
    """What position t must predict, the token at t + 1, and whether it counts.

    Args:
        ids_BT: ``[BOS] [STYLE] text [EOS] [PAD]...``.
        never: ids that are no targets: padding, and the style tokens, which are given and never
            predicted (slide 3.2).
        only_BT: true at the tokens that are targets, such as those of an answer and not of its
            question; all by default.
    """
    target_BT = ids_BT[:, 1:]
    counts_BT = jnp.isin(target_BT, jnp.asarray(never), invert=True)
    return target_BT, counts_BT if only_BT is None else counts_BT & only_BT[:, 1:]


class CaptionSums(NamedTuple):
    """What adds up over the examples of a batch.

    Attributes:
        loss: -log P of the target tokens.
        hits: target tokens that score highest.
        tokens: target tokens.
    """

    loss: Float[Array, ""]
    hits: Float[Array, ""]
    tokens: Float[Array, ""]


def captioning_sums(
    logits_BTV: Float[Array, "B T V"],
    ids_BT: Int[Array, "B T"],
    *,
    never: Sequence[int],
    only_BT: Bool[Array, "B T"] | None = None,
) -> CaptionSums:
    """Sums over target tokens, which add up over the parts of a batch."""
    target_BT, counts_BT = caption_targets(ids_BT, never=never, only_BT=only_BT)
    logits_BTV = logits_BTV[:, :-1].astype(jnp.float32)
    own_BT = jnp.take_along_axis(logits_BTV, target_BT[..., None], axis=-1)[..., 0]
    loss_BT = jax.nn.logsumexp(logits_BTV, axis=-1) - own_BT
    hits_BT = (logits_BTV.argmax(axis=-1) == target_BT) & counts_BT
    return CaptionSums(
        loss=jnp.where(counts_BT, loss_BT, 0).sum(),
        hits=hits_BT.sum(dtype=jnp.float32),
        tokens=counts_BT.sum(dtype=jnp.float32),
    )


def captioning_mean(sums: CaptionSums) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The mean loss over target tokens, and the share of them that score highest."""
    tokens = jnp.maximum(sums.tokens, 1)
    return sums.loss / tokens, {"token_accuracy": sums.hits / tokens}


def captioning_loss(
    logits_BTV: Float[Array, "B T V"], ids_BT: Int[Array, "B T"], *, never: Sequence[int]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Mean over all target tokens of the batch of -log P(token | tokens before it, image).

    CoCa, equation 3 and slide 3.2; ``logits_BTV[:, t]`` must come from tokens up to position t.

    Returns:
        The loss, and the share of target tokens that score highest.
    """
    return captioning_mean(captioning_sums(logits_BTV, ids_BT, never=never))
