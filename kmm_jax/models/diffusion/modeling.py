"""A whole latent diffusion model: text encoders, UNet and autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from kmm_jax.models.diffusion.autoencoder import Autoencoder
from kmm_jax.models.diffusion.config import LatentDiffusionConfig
from kmm_jax.models.diffusion.text_encoders import text_encoder
from kmm_jax.models.diffusion.unet import UNet


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

    def __init__(self, config: LatentDiffusionConfig, *, rngs: nnx.Rngs, networks: Any = None):
        """``networks`` gives UNet and autoencoder their keys, ``rngs`` if it is None."""
        self.config = config
        self.texts = nnx.List([text_encoder(each, rngs=rngs) for each in config.texts])
        self.unet = UNet(config.unet, rngs=networks or rngs)
        self.vae = Autoencoder(config.vae, rngs=networks or rngs)

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


class _OneKey:
    """Random numbers for shapes alone: one key for all.

    ``nnx.Rngs`` counts its keys in an array, and what tracing spends on that grows with the square
    of the number of parameters: 17 seconds for the UNet of SD 1.5, where this takes one.
    """

    def __init__(self) -> None:
        self._key = jax.random.key(0)

    def params(self) -> jax.Array:
        return self._key


def abstract(config: LatentDiffusionConfig) -> LatentDiffusion:
    """The model with shapes in place of its parameters."""
    return nnx.eval_shape(lambda: LatentDiffusion(config, rngs=nnx.Rngs(0), networks=_OneKey()))
