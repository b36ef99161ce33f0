"""The text encoder of Stable Diffusion: the states of a CLIP's text tower, all positions of them.

B batch, T positions, D width, P width of the projected text.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from kmm_jax.models.clip.modeling import TextTower
from kmm_jax.models.diffusion.config import TextEncoderConfig


class TextStates(NamedTuple):
    """A prompt as a UNet takes it.

    T are the positions given, which a resampled encoder has as many of as its teacher.

    Attributes:
        hidden: the vector at each position, padding included: no mask keeps a UNet from it.
        pooled: the vector at the end of the text; projected where the encoder has a projection.
    """

    hidden: Float[Array, "B T D"]
    pooled: Float[Array, "B P"]


class TextEncoder(nnx.Module):
    """A text tower, and a projection where the published encoder has one."""

    def __init__(self, config: TextEncoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        dtype = jnp.dtype(config.dtype)
        self.tower = TextTower(config.tower, dtype=dtype, rngs=rngs)
        if config.projection is not None:
            self.projection = nnx.Linear(
                config.tower.width, config.projection, use_bias=False, dtype=dtype, rngs=rngs
            )

    def __call__(
        self, ids_BT: Int[Array, "B T"], *, skip: int = 0, normed: bool = True
    ) -> TextStates:
        """The states of prompts.

        Args:
            skip: take the states this many layers before the last (``clip_skip``).
            normed: with the tower's last norm; SDXL takes its states without.
        """
        hidden_BTD, last_BTD = self.tower.states(ids_BT, skip=skip)
        pooled_BD = self.tower.pooled(ids_BT, last_BTD)
        if self.config.projection is not None:
            pooled_BD = self.projection(pooled_BD)
        if normed:
            hidden_BTD = self.tower.norm(hidden_BTD)
        return TextStates(hidden_BTD, pooled_BD)
