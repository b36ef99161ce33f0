"""``AutoencoderKL``: pictures to latents and back (arXiv 2112.10752, 3.1).

B batch, H height, W width, C channels, h w of the latents, Z their channels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from kmm_jax.models.attention import attend, project
from kmm_jax.models.diffusion.config import VAEConfig
from kmm_jax.models.diffusion.layers import (
    Downsample,
    ResnetBlock,
    Upsample,
    conv,
    group_norm,
    run,
)

_EPSILON = 1e-6


class Posterior(NamedTuple):
    """A normal distribution over latents, unscaled."""

    mean: Float[Array, "B h w Z"]
    log_variance: Float[Array, "B h w Z"]

    def sample(self, noise: Float[Array, "B h w Z"]) -> Float[Array, "B h w Z"]:
        """One draw, given standard normal noise."""
        return self.mean + jnp.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Float[Array, " B"]:
        """Divergence from the standard normal distribution, in nats, summed over an example."""
        each = jnp.square(self.mean) + jnp.exp(self.log_variance) - 1.0 - self.log_variance
        return 0.5 * each.sum(axis=(1, 2, 3))


class SelfAttention(nnx.Module):
    """One head over all positions of a feature map, its projections with biases."""

    def __init__(self, width: int, *, groups: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.group_norm = group_norm(width, groups, _EPSILON, dtype=dtype, rngs=rngs)
        self.to_q = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.to_k = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.to_v = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.to_out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """The feature map with what its positions gathered."""
        batch, _, _, channels = x_BHWC.shape
        x_BTC = self.group_norm(x_BHWC).reshape(batch, -1, channels)
        q, k, v = (x[:, :, None] for x in project(x_BTC, (self.to_q, self.to_k, self.to_v)))
        return x_BHWC + self.to_out(attend(q, k, v)[:, :, 0]).reshape(x_BHWC.shape)


class Middle(nnx.Module):
    """Two ResNet blocks with attention between them."""

    def __init__(self, config: VAEConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        width, groups = config.widths[-1], config.norm_groups
        self.resnets = nnx.List([_resnet(config, width, width, dtype, rngs) for _ in range(2)])
        if config.middle_attention:
            self.attentions = nnx.List(
                [SelfAttention(width, groups=groups, dtype=dtype, rngs=rngs)]
            )
        self.attends = config.middle_attention

    def __call__(self, x_BHWC: Array, *, remat: str) -> Float[Array, "B h w C"]:
        """The smallest feature map."""
        x_BHWC = run(self.resnets[0], x_BHWC, remat=remat)
        if self.attends:
            x_BHWC = run(self.attentions[0], x_BHWC, remat=remat)
        return run(self.resnets[1], x_BHWC, remat=remat)


class Level(nnx.Module):
    """The ResNet blocks of one size of feature map."""

    def __init__(
        self,
        config: VAEConfig,
        inputs: int,
        outputs: int,
        layers: int,
        *,
        resample: Literal["down", "up"] | None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        widths = (inputs, *(outputs,) * (layers - 1))
        self.resample = resample
        if resample == "down":
            self.downsampler = Downsample(outputs, even=True, dtype=dtype, rngs=rngs)
        if resample == "up":
            self.upsampler = Upsample(outputs, dtype=dtype, rngs=rngs)
        self.resnets = nnx.List([_resnet(config, each, outputs, dtype, rngs) for each in widths])

    def __call__(self, x_BHWC: Array, *, remat: str) -> Float[Array, "B H W C"]:
        """The blocks, and the resampling behind them."""
        for block in self.resnets:
            x_BHWC = run(block, x_BHWC, remat=remat)
        if self.resample == "down":
            x_BHWC = run(self.downsampler, x_BHWC)
        if self.resample == "up":
            x_BHWC = run(self.upsampler, x_BHWC)
        return x_BHWC


class Encoder(nnx.Module):
    """Pictures to the mean and log-variance of latents."""

    def __init__(self, config: VAEConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        widths = config.widths
        self.remat = config.remat
        self.conv_in = conv(config.in_channels, widths[0], dtype=dtype, rngs=rngs)
        levels, before = [], widths[0]
        for number, width in enumerate(widths):
            resample: Literal["down", "up"] | None = "down" if number < len(widths) - 1 else None
            levels.append(
                Level(
                    config,
                    before,
                    width,
                    config.layers,
                    resample=resample,
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            before = width
        self.down_blocks = nnx.List(levels)
        self.mid_block = Middle(config, dtype=dtype, rngs=rngs)
        self.conv_norm_out = group_norm(
            widths[-1], config.norm_groups, _EPSILON, dtype=dtype, rngs=rngs
        )
        self.conv_out = conv(widths[-1], 2 * config.latent_channels, dtype=dtype, rngs=rngs)

    def __call__(self, x_BHWC: Array) -> Float[Array, "B h w 2Z"]:
        """What the latents are read from."""
        x_BHWC = self.conv_in(x_BHWC)
        for level in self.down_blocks:
            x_BHWC = level(x_BHWC, remat=self.remat)
        x_BHWC = self.mid_block(x_BHWC, remat=self.remat)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x_BHWC)))


class Decoder(nnx.Module):
    """Latents to pictures."""

    def __init__(self, config: VAEConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        widths = config.widths
        self.remat = config.remat
        self.conv_in = conv(config.latent_channels, widths[-1], dtype=dtype, rngs=rngs)
        self.mid_block = Middle(config, dtype=dtype, rngs=rngs)
        levels, before = [], widths[-1]
        for number, width in enumerate(reversed(widths)):
            resample: Literal["down", "up"] | None = "up" if number < len(widths) - 1 else None
            levels.append(
                Level(
                    config,
                    before,
                    width,
                    config.layers + 1,
                    resample=resample,
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            before = width
        self.up_blocks = nnx.List(levels)
        self.conv_norm_out = group_norm(
            widths[0], config.norm_groups, _EPSILON, dtype=dtype, rngs=rngs
        )
        self.conv_out = conv(widths[0], config.in_channels, dtype=dtype, rngs=rngs)

    def __call__(self, z_BhwZ: Array) -> Float[Array, "B H W C"]:
        """Pixels."""
        x_BHWC = self.mid_block(self.conv_in(z_BhwZ), remat=self.remat)
        for level in self.up_blocks:
            x_BHWC = level(x_BHWC, remat=self.remat)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x_BHWC)))


class Autoencoder(nnx.Module):
    """Encoder and decoder. Pictures go from -1 to 1; latents outside are scaled."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        self.config = config
        dtype = jnp.dtype(config.dtype)
        self.encoder = Encoder(config, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(config, dtype=dtype, rngs=rngs)
        latents = config.latent_channels
        if config.quant:
            self.quant_conv = conv(2 * latents, 2 * latents, kernel=1, dtype=dtype, rngs=rngs)
        if config.post_quant:
            self.post_quant_conv = conv(latents, latents, kernel=1, dtype=dtype, rngs=rngs)

    def posterior(self, image_BHWC: Float[Array, "B H W C"]) -> Posterior:
        """The distribution over unscaled latents, float32; its log-variance kept in [-30, 20]."""
        z = self.encoder(image_BHWC.astype(self.config.dtype))
        if self.config.quant:
            z = self.quant_conv(z)
        mean, log_variance = jnp.split(z.astype(jnp.float32), 2, axis=-1)
        return Posterior(mean, jnp.clip(log_variance, -30.0, 20.0))

    def encode(self, image_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B h w Z"]:
        """The scaled latents of pictures, at the mean of their distribution."""
        return self.scaled(self.posterior(image_BHWC).mean)

    def scaled(self, z_BhwZ: Float[Array, "B h w Z"]) -> Float[Array, "B h w Z"]:
        """Latents as diffusion takes them."""
        return (z_BhwZ - self.config.shift) * self.config.scaling

    def decode(self, z_BhwZ: Float[Array, "B h w Z"]) -> Float[Array, "B H W C"]:
        """The pictures of scaled latents, float32, about -1 to 1."""
        return self.decode_unscaled(z_BhwZ / self.config.scaling + self.config.shift)

    def decode_unscaled(self, z_BhwZ: Float[Array, "B h w Z"]) -> Float[Array, "B H W C"]:
        """The pictures of a draw from a posterior."""
        z_BhwZ = z_BhwZ.astype(self.config.dtype)
        if self.config.post_quant:
            z_BhwZ = self.post_quant_conv(z_BhwZ)
        return self.decoder(z_BhwZ).astype(jnp.float32)


def _resnet(
    config: VAEConfig, inputs: int, outputs: int, dtype: jnp.dtype, rngs: nnx.Rngs
) -> ResnetBlock:
    return ResnetBlock(
        inputs, outputs, groups=config.norm_groups, epsilon=_EPSILON, dtype=dtype, rngs=rngs
    )
