"""A whole latent diffusion model: text encoders, UNet and autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from kmm_jax.models.diffusion.autoencoder import Autoencoder
from kmm_jax.models.diffusion.config import LatentDiffusionConfig
from kmm_jax.models.diffusion.text_encoders import text_encoder
from kmm_jax.models.diffusion.unet import UNet
from kmm_jax.models.keys import abstract_module


class Conditioning(NamedTuple):
    """Prompts as a UNet takes them.

    Attributes:
        context: the sequence it attends to.
        pooled: one vector a prompt, for SDXL; else None.
    """

    context: Float[Array, "B S E"]
    pooled: Float[Array, "B P"] | None


class LatentDiffusion(nnx.Module):
    """The three parts of Stable Diffusion under one roof."""

    def __init__(self, config: LatentDiffusionConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.texts = nnx.List([text_encoder(each, rngs=rngs) for each in config.texts])
        self.unet = UNet(config.unet, rngs=rngs)
        self.vae = Autoencoder(config.vae, rngs=rngs)

    def condition(self, ids: Sequence[Int[Array, "B T"]], *, skip: int = 0) -> Conditioning:
        """What the UNet sees of prompts.

        One encoder's states after its last norm (SD 1 and 2); of several, side by side, those one
        layer before the last and without the norm, and the last one's pooled vector (SDXL, arXiv
        2307.01952, section 2.1).

        Args:
            ids: of the prompts, for each text encoder.
            skip: layers to leave out at the end (``clip_skip``), on top of SDXL's one.
        """
        several = len(self.texts) > 1
        states = [
            text(each, skip=skip + several, normed=not several)
            for text, each in zip(self.texts, ids, strict=True)
        ]
        return Conditioning(
            jnp.concatenate([each.hidden for each in states], axis=-1),
            states[-1].pooled if self.config.unet.pooled_width else None,
        )


def abstract(config: LatentDiffusionConfig) -> LatentDiffusion:
    """The model with shapes in place of its parameters."""
    return abstract_module(lambda rngs: LatentDiffusion(config, rngs=rngs))
