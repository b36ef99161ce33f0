"""What UNet and autoencoder are built of: convolutions, group norms, ResNet blocks, resampling.

B batch, H height, W width, C channels, D width of the timestep's embedding.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from kmm_jax.models.placement import by_example, gathered
from kmm_jax.models.transformer import rematerialised


def conv(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int | str = "same",
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A square convolution over (B, H, W, C).

    ``"same"`` pads both sides alike, also with a stride: JAX's own SAME pads one side then.
    """
    pad = kernel // 2 if padding == "same" else padding
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=pad if isinstance(pad, str) else ((pad, pad), (pad, pad)),
        dtype=dtype,
        rngs=rngs,
    )


def group_norm(
    channels: int, groups: int, epsilon: float, *, dtype: jnp.dtype, rngs: nnx.Rngs
) -> nnx.GroupNorm:
    """With statistics in float32, and the variance about the mean.

    E[x^2] - E[x]^2 loses all digits where the mean is large beside the spread.
    """
    return nnx.GroupNorm(
        channels,
        num_groups=groups,
        epsilon=epsilon,
        dtype=dtype,
        use_fast_variance=False,
        rngs=rngs,
    )


class ResnetBlock(nnx.Module):
    """Two convolutions behind norms, with the timestep between them where there is one."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        time_width: int = 0,
        groups: int,
        epsilon: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.norm1 = group_norm(inputs, groups, epsilon, dtype=dtype, rngs=rngs)
        self.conv1 = conv(inputs, outputs, dtype=dtype, rngs=rngs)
        if time_width:
            self.time_emb_proj = nnx.Linear(time_width, outputs, dtype=dtype, rngs=rngs)
        self.norm2 = group_norm(outputs, groups, epsilon, dtype=dtype, rngs=rngs)
        self.conv2 = conv(outputs, outputs, dtype=dtype, rngs=rngs)
        if inputs != outputs:
            self.conv_shortcut = conv(inputs, outputs, kernel=1, dtype=dtype, rngs=rngs)
        self.shortcut = inputs != outputs

    def __call__(
        self, x_BHWC: Float[Array, "B H W C"], time_BD: Float[Array, "B D"] | None = None
    ) -> Float[Array, "B H W O"]:
        """The block; ``time_BD`` where it was built with a ``time_width``."""
        h_BHWC = self.conv1(jax.nn.silu(self.norm1(x_BHWC)))
        if time_BD is not None:
            h_BHWC += self.time_emb_proj(jax.nn.silu(time_BD))[:, None, None]
        h_BHWC = self.conv2(jax.nn.silu(self.norm2(h_BHWC)))
        return (self.conv_shortcut(x_BHWC) if self.shortcut else x_BHWC) + h_BHWC


class Downsample(nnx.Module):
    """Half the sides by a convolution.

    With ``even``, padded right and below only: the encoder of ``AutoencoderKL`` does so, UNets pad
    all sides.
    """

    def __init__(self, channels: int, *, even: bool = False, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.even = even
        self.conv = conv(
            channels,
            channels,
            stride=2,
            padding="VALID" if even else "same",
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H/2 W/2 C"]:
        """Every second position."""
        if self.even:
            x_BHWC = jnp.pad(x_BHWC, ((0, 0), (0, 1), (0, 1), (0, 0)))
        return self.conv(x_BHWC)


class Upsample(nnx.Module):
    """Twice the sides: each position four times, then a convolution."""

    def __init__(self, channels: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B 2H 2W C"]:
        """Nearest neighbour, smoothed."""
        return self.conv(jnp.repeat(jnp.repeat(x_BHWC, 2, axis=1), 2, axis=2))


def run(block: nnx.Module, *inputs: Any, remat: str = "none") -> Any:
    """A block on its inputs, its weights gathered where they are split, recomputed if asked.

    Over a mesh each block's weights are whole only while it runs (``models.placement``).
    """
    graphdef, state = nnx.split(block)
    dtype = inputs[0].dtype

    def applied(parameters: Any, inputs: Any) -> Any:
        return nnx.merge(graphdef, gathered(parameters, dtype=dtype))(*inputs)

    inputs = jax.tree.map(by_example, inputs)
    return by_example(rematerialised(applied, remat)(nnx.as_pure(state), inputs))
