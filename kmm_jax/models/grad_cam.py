"""Grad-CAM on an image tower: which patches a score rests on (arXiv 1610.02391).

For towers that make a picture's vector out of all its patches, so that no patch has a vector of its
own in the space of the texts.

B batch, N patches, G patches along a side (N = G x G), S positions, D width, L activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from kmm_jax.models.transformer import KeyValue
from kmm_jax.models.vision import VisionTransformer

Score = Callable[[Float[Array, "B N D"], Float[Array, "B D"] | None], Float[Array, "B"]]
"""A score of each picture from what its tower gives: the patches' and the class token's vectors."""


def grad_cam(
    vision: VisionTransformer, image_BHWC: Num[Array, "B H W 3"], score: Score
) -> Float[Array, "B G G"]:
    """Equations 1 and 2 of the paper over all the attention there is, float32, 0 or more.

    The activations are the patches as others attend to them: behind the LayerNorm in front of each
    layer's keys and values, and behind the tower, where a pooler may stand. Their channels all
    count as channels of one map (docs/decisions/grad-cam.md).

    In front of a LayerNorm they would not do: it ignores a vector's length, so that a patch's
    gradient there is at right angles to the patch itself, and what a patch adds to the score drops
    out of equation 2.
    """
    config = vision.config
    layers = vision.blocks.unstack()
    first = int(config.class_token)

    def scored(shift_LBND: Array) -> tuple[Array, list[Array]]:
        """The scores' sum with something added to each activation; and the activations."""
        activations = []
        x_BSD = vision.embed(image_BHWC)
        for layer, shift_BND in zip(layers, shift_LBND, strict=False):
            normed_BSD = layer.attention_norm(x_BSD)
            activations.append(normed_BSD[:, first:])
            context_BSD = normed_BSD.at[:, first:].add(shift_BND)
            x_BSD = layer.given(x_BSD, KeyValue(*layer.attention.project_context(context_BSD)))
        patch_BND, class_BD = vision.read(x_BSD)
        activations.append(patch_BND)
        return score(patch_BND + shift_LBND[-1], class_BD).sum(), activations

    shape = (len(layers) + 1, len(image_BHWC), config.patches, config.width)
    gradient_LBND, activations = jax.grad(scored, has_aux=True)(jnp.zeros(shape, vision.dtype))
    heat_BN = weighted(jnp.stack(activations), gradient_LBND)
    side = math.isqrt(config.patches)
    return heat_BN.reshape(-1, side, side)


def weighted(
    activation_LBND: Float[Array, "L B N D"], gradient_LBND: Float[Array, "L B N D"]
) -> Float[Array, "B N"]:
    """Channels weighted by their mean gradient, summed; what is below 0 is cut (eq. 1, 2)."""
    weight_LBD = gradient_LBND.astype(jnp.float32).mean(axis=2)
    heat_BN = jnp.einsum("LBND,LBD->BN", activation_LBND.astype(jnp.float32), weight_LBD)
    return jax.nn.relu(heat_BN)
