"""The UNet of Stable Diffusion 1, 2 and XL, ``UNet2DConditionModel`` of diffusers.

Parameters are named as published but for what ``interop/diffusers`` lists.

B batch, H height, W width, C channels, S context positions, D width of the timestep's embedding,
E context width, N numbers about the picture.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from kmm_jax.models.diffusion.config import UNetConfig
from kmm_jax.models.diffusion.layers import (
    Downsample,
    ResnetBlock,
    Upsample,
    conv,
    group_norm,
    run,
)
from kmm_jax.models.diffusion.spatial_transformer import SpatialTransformer


class Added(NamedTuple):
    """What SDXL adds to the timestep (arXiv 2307.01952, 2.2).

    Attributes:
        pooled: the text as one vector.
        time_ids: height and width before and after cropping, and where the crop begins, in pixels.
    """

    pooled: Float[Array, "B P"]
    time_ids: Float[Array, "B N"]


def sinusoids(number_B: Float[Array, " B"], width: int) -> Float[Array, "B {width}"]:
    """Cosines, then sines, of a number at geometric frequencies, float32 (arXiv 1706.03762, 3.5).

    In bfloat16 a timestep of 981 would be 980.
    """
    half = width // 2
    rates = jnp.exp(-jnp.log(10_000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles_BK = number_B.astype(jnp.float32)[:, None] * rates
    return jnp.concatenate([jnp.cos(angles_BK), jnp.sin(angles_BK)], axis=-1)


class TimestepEmbedding(nnx.Module):
    """Sinusoids -> the vector that every ResNet block sees; in float32."""

    def __init__(self, inputs: int, width: int, *, guidance_width: int = 0, rngs: nnx.Rngs):
        self.linear_1 = nnx.Linear(inputs, width, rngs=rngs)
        if guidance_width:
            self.cond_proj = nnx.Linear(guidance_width, inputs, use_bias=False, rngs=rngs)
        self.linear_2 = nnx.Linear(width, width, rngs=rngs)

    def __call__(
        self, x_BK: Float[Array, "B K"], guidance_BG: Float[Array, "B G"] | None = None
    ) -> Float[Array, "B D"]:
        """The embedding; of an embedded guidance scale too, where it was built for one."""
        if guidance_BG is not None:
            x_BK += self.cond_proj(guidance_BG)
        return self.linear_2(jax.nn.silu(self.linear_1(x_BK)))


class Level(nnx.Module):
    """ResNet blocks with a spatial transformer behind each, where the level has any."""

    def __init__(
        self,
        config: UNetConfig,
        level: int,
        inputs: list[int],
        *,
        resample: Literal["down", "up"] | None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        width, depth = config.widths[level], config.transformers[level]
        self.resnets = nnx.List([_resnet(config, each, width, dtype, rngs) for each in inputs])
        if depth:
            self.attentions = nnx.List(
                [_transformer(config, level, depth, dtype, rngs) for _ in inputs]
            )
        self.attends = bool(depth)
        self.resample = resample
        if resample == "down":
            self.downsampler = Downsample(width, dtype=dtype, rngs=rngs)
        if resample == "up":
            self.upsampler = Upsample(width, dtype=dtype, rngs=rngs)

    def step(
        self, number: int, x_BHWC: Array, time_BD: Array, context_BSE: Array, *, remat: str
    ) -> Array:
        """The ``number``th ResNet block and what is behind it."""
        x_BHWC = run(self.resnets[number], x_BHWC, time_BD, remat=remat)
        if self.attends:
            x_BHWC = run(self.attentions[number], x_BHWC, context_BSE, remat=remat)
        return x_BHWC


class Middle(nnx.Module):
    """Two ResNet blocks with a spatial transformer between them."""

    def __init__(self, config: UNetConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        width, last = config.widths[-1], len(config.widths) - 1
        self.resnets = nnx.List([_resnet(config, width, width, dtype, rngs) for _ in range(2)])
        self.attentions = nnx.List(
            [_transformer(config, last, config.middle_transformers, dtype, rngs)]
        )

    def __call__(
        self, x_BHWC: Array, time_BD: Array, context_BSE: Array, *, remat: str
    ) -> Float[Array, "B H W C"]:
        """The smallest feature map."""
        x_BHWC = run(self.resnets[0], x_BHWC, time_BD, remat=remat)
        x_BHWC = run(self.attentions[0], x_BHWC, context_BSE, remat=remat)
        return run(self.resnets[1], x_BHWC, time_BD, remat=remat)


def _resnet(
    config: UNetConfig, inputs: int, outputs: int, dtype: jnp.dtype, rngs: nnx.Rngs
) -> ResnetBlock:
    return ResnetBlock(
        inputs,
        outputs,
        time_width=4 * config.widths[0],
        groups=config.norm_groups,
        epsilon=config.norm_epsilon,
        dtype=dtype,
        rngs=rngs,
    )


def _transformer(
    config: UNetConfig, level: int, depth: int, dtype: jnp.dtype, rngs: nnx.Rngs
) -> SpatialTransformer:
    return SpatialTransformer(
        config.widths[level],
        config.heads[level],
        depth,
        config.context_width,
        groups=config.norm_groups,
        dtype=dtype,
        rngs=rngs,
    )


class UNet(nnx.Module):
    """Predicts what was added to latents: noise, velocity or the latents themselves."""

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        dtype = jnp.dtype(config.dtype)
        widths, time_width = config.widths, 4 * config.widths[0]
        self.conv_in = conv(config.in_channels, widths[0], dtype=dtype, rngs=rngs)
        self.time_embedding = TimestepEmbedding(
            widths[0], time_width, guidance_width=config.guidance_width, rngs=rngs
        )
        if config.time_ids:
            self.add_embedding = TimestepEmbedding(
                config.time_ids * config.time_id_width + config.pooled_width, time_width, rngs=rngs
            )

        def level(number: int, inputs: list[int], resample: Literal["down", "up"] | None) -> Level:
            return Level(config, number, inputs, resample=resample, dtype=dtype, rngs=rngs)

        last = len(widths) - 1
        skips, before, down = [widths[0]], widths[0], []
        for number, width in enumerate(widths):
            halves = number < last
            inputs = [before, *[width] * (config.layers - 1)]
            down.append(level(number, inputs, "down" if halves else None))
            skips += [width] * (config.layers + halves)
            before = width
        self.down_blocks = nnx.List(down)
        self.mid_block = Middle(config, dtype=dtype, rngs=rngs)
        up = []
        for number in range(last, -1, -1):
            inputs = []
            for _ in range(config.layers + 1):
                inputs.append(before + skips.pop())
                before = widths[number]
            up.append(level(number, inputs, "up" if number else None))
        self.up_blocks = nnx.List(up)
        self.conv_norm_out = group_norm(
            widths[0], config.norm_groups, config.norm_epsilon, dtype=dtype, rngs=rngs
        )
        self.conv_out = conv(widths[0], config.out_channels, dtype=dtype, rngs=rngs)

    def embed_time(
        self,
        timestep_B: Float[Array, " B"],
        added: Added | None = None,
        guidance_BG: Float[Array, "B G"] | None = None,
    ) -> Float[Array, "B D"]:
        """Everything that is no latent and no text sequence, as one vector in float32."""
        config = self.config
        time_BD = self.time_embedding(sinusoids(timestep_B, config.widths[0]), guidance_BG)
        if config.time_ids:
            if added is None:
                raise ValueError("this UNet also takes a pooled text and sizes: give `added`")
            ids_BN = added.time_ids
            waves = sinusoids(ids_BN.reshape(-1), config.time_id_width)
            more_BK = jnp.concatenate(
                [added.pooled.astype(jnp.float32), waves.reshape(ids_BN.shape[0], -1)], axis=-1
            )
            time_BD += self.add_embedding(more_BK)
        return time_BD

    def __call__(
        self,
        x_BHWC: Float[Array, "B H W C"],
        timestep_B: Float[Array, " B"],
        context_BSE: Float[Array, "B S E"],
        *,
        added: Added | None = None,
        guidance_BG: Float[Array, "B G"] | None = None,
    ) -> Float[Array, "B H W O"]:
        """The prediction, float32.

        Args:
            timestep_B: of each example's noise, from 0 to the number of training steps; may be
                fractional.
            added: for SDXL.
            guidance_BG: sinusoids of the guidance scale, for latent consistency models.

        Raises:
            ValueError: sides that do not divide by ``config.smallest``, or ``added`` is missing.
        """
        config, (height, width) = self.config, x_BHWC.shape[1:3]
        if height % config.smallest or width % config.smallest:
            raise ValueError(
                f"latents of {height} x {width}: both sides must divide by {config.smallest}"
            )
        dtype, remat = jnp.dtype(config.dtype), config.remat
        time_BD = self.embed_time(timestep_B, added, guidance_BG).astype(dtype)
        context_BSE = context_BSE.astype(dtype)
        x_BHWC = self.conv_in(x_BHWC.astype(dtype))
        skips = [x_BHWC]
        for block in self.down_blocks:
            for number in range(len(block.resnets)):
                x_BHWC = block.step(number, x_BHWC, time_BD, context_BSE, remat=remat)
                skips.append(x_BHWC)
            if block.resample == "down":
                x_BHWC = run(block.downsampler, x_BHWC)
                skips.append(x_BHWC)
        x_BHWC = self.mid_block(x_BHWC, time_BD, context_BSE, remat=remat)
        for block in self.up_blocks:
            for number in range(len(block.resnets)):
                x_BHWC = jnp.concatenate([x_BHWC, skips.pop()], axis=-1)
                x_BHWC = block.step(number, x_BHWC, time_BD, context_BSE, remat=remat)
            if block.resample == "up":
                x_BHWC = run(block.upsampler, x_BHWC)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x_BHWC))).astype(jnp.float32)
