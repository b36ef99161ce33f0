"""The Vision Transformer every image encoder here is made of (arXiv 2010.11929).

B batch, N patches, S positions (N, and the class token's), P patch side, D width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from kmm_jax.models.stem import ConvStem, stem_channels
from kmm_jax.models.transformer import Activation, Layer, Stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A Vision Transformer.

    Attributes:
        image_size: side of the square input, pixels; a multiple of ``patch_size``.
        class_token: put a learned token before the patches.
        pre_norm: a LayerNorm before the first layer and no bias in the patch projection, as in
            OpenAI's CLIP.
        stem: how a patch becomes a vector: one linear projection (``"linear"``), or convolutions
            (``"conv"``, see ``ConvStem``), with which few pictures teach much more.
        positions: what the learned position embeddings start from: small random values, or the
            sines and cosines of arXiv 2205.01580, with which short runs learn shapes much sooner.
        mean, std: per channel, of pixels scaled to [0, 1].
        remat: see ``Stack``.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    hidden: int
    class_token: bool = False
    pre_norm: bool = False
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-6
    stem: Literal["linear", "conv"] = "linear"
    positions: Literal["random", "sincos"] = "random"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    remat: str = "none"

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.stem == "conv":
            stem_channels(self.patch_size, self.width)
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"sincos positions need a width divisible by 4, got {self.width}")

    @property
    def patches(self) -> int:
        """Number of patches N."""
        return (self.image_size // self.patch_size) ** 2


class VisionTransformer(nnx.Module):
    """Pixels to one vector a patch, and one for the class token where there is one."""

    def __init__(self, config: VisionConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.config = config
        self.dtype = dtype
        width = config.width
        self.patch_embedding: nnx.Linear | ConvStem
        if config.stem == "conv":
            self.patch_embedding = ConvStem(
                config.patch_size, width, norm_epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs
            )
        else:
            self.patch_embedding = nnx.Linear(
                3 * config.patch_size**2,
                width,
                use_bias=not config.pre_norm,
                dtype=dtype,
                rngs=rngs,
            )
        normal = nnx.initializers.normal(0.02)
        positions = normal(rngs.params(), (config.patches + config.class_token, width))
        if config.positions == "sincos":
            side = config.image_size // config.patch_size
            positions = positions.at[int(config.class_token) :].set(sincos_positions(side, width))
        self.positions = nnx.Param(positions)
        if config.class_token:
            self.class_embedding = nnx.Param(normal(rngs.params(), (width,)))
        if config.pre_norm:
            self.pre_norm = nnx.LayerNorm(
                width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs
            )
        self.blocks = Stack(
            lambda rngs: Layer(
                width,
                config.heads,
                config.hidden,
                activation=config.activation,
                norm_epsilon=config.norm_epsilon,
                dtype=dtype,
                rngs=rngs,
            ),
            config.depth,
            remat=config.remat,
            rngs=rngs,
        )
        self.norm = nnx.LayerNorm(width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)

    def __call__(
        self, image_BHWC: Num[Array, "B H W 3"]
    ) -> tuple[Float[Array, "B N D"], Float[Array, "B D"] | None]:
        """Patch vectors and the class token's (None without one), both normalised.

        ``image_BHWC`` is uint8, or float already scaled to [0, 1].
        """
        return self.read(self.blocks(self.embed(image_BHWC)))

    def embed(self, image_BHWC: Num[Array, "B H W 3"]) -> Float[Array, "B S D"]:
        """What enters the first layer: the class token, where there is one, and the patches."""
        config = self.config
        pixels_BHWC = normalised(
            image_BHWC, config.image_size, mean=config.mean, std=config.std, dtype=self.dtype
        )
        linear = config.stem == "linear"
        x_BND = self.patch_embedding(
            patchify(pixels_BHWC, config.patch_size) if linear else pixels_BHWC
        )
        if config.class_token:
            class_B1D = jnp.broadcast_to(
                self.class_embedding[...].astype(self.dtype), (x_BND.shape[0], 1, x_BND.shape[2])
            )
            x_BND = jnp.concatenate([class_B1D, x_BND], axis=1)
        x_BND += self.positions[...].astype(self.dtype)
        if config.pre_norm:
            x_BND = self.pre_norm(x_BND)
        return x_BND

    def read(
        self, x_BSD: Float[Array, "B S D"]
    ) -> tuple[Float[Array, "B N D"], Float[Array, "B D"] | None]:
        """Patch vectors and the class token's, normalised, from what leaves the last layer."""
        x_BSD = self.norm(x_BSD)
        if self.config.class_token:
            return x_BSD[:, 1:], x_BSD[:, 0]
        return x_BSD, None


def normalised(
    image_BHWC: Num[Array, "B H W 3"],
    size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: jnp.dtype,
) -> Float[Array, "B H W 3"]:
    """Pixels less their mean over their deviation, channel by channel.

    Args:
        image_BHWC: uint8, or float already scaled to [0, 1].
        size: the side they must have.

    Raises:
        ValueError: they have another.
    """
    if image_BHWC.shape[1:] != (size, size, 3):
        raise ValueError(
            f"images of shape {image_BHWC.shape[1:]} given to a model of ({size}, {size}, 3)"
        )
    pixels = image_BHWC.astype(jnp.float32)
    if image_BHWC.dtype == jnp.uint8:
        pixels /= 255
    return ((pixels - jnp.asarray(mean)) / jnp.asarray(std)).astype(dtype)


def patchify(image_BHWC: Num[Array, "B H W C"], patch: int) -> Num[Array, "B N PPC"]:
    """Cut images into flat patches, rows first; channels run fastest within a patch."""
    batch, height, width, channels = image_BHWC.shape
    x = image_BHWC.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, patch * patch * channels)


def sincos_positions(side: int, width: int) -> Float[Array, "N D"]:
    """Sines and cosines of the row and the column of each patch of a ``side`` x ``side`` grid.

    A quarter of the width each; wavelengths from 2 pi to 10,000 x 2 pi patches (arXiv 2205.01580).
    """
    frequency_F = 1 / 10_000 ** (jnp.arange(width // 4) / (width // 4))
    row_N, column_N = jnp.mgrid[:side, :side].reshape(2, -1)
    parts = [
        wave(place_N[:, None] * frequency_F)
        for place_N in (row_N, column_N)
        for wave in (jnp.sin, jnp.cos)
    ]
    return jnp.concatenate(parts, axis=1)


def resize_positions(
    positions_ND: Float[Array, "N D"], patches: int, *, class_token: bool
) -> Float[Array, "M D"]:
    """Position embeddings for another number of patches, by bicubic interpolation of their grid.

    This is how a model trained at 288 px goes on at 576 px (CoCa, section 4.1). The class token's
    position, which comes first, is kept.

    Raises:
        ValueError: either number of patches is not a square.
    """
    first, grid_ND = positions_ND[: int(class_token)], positions_ND[int(class_token) :]
    old, new = math.isqrt(len(grid_ND)), math.isqrt(patches)
    if old**2 != len(grid_ND) or new**2 != patches:
        raise ValueError(f"cannot resize a grid of {len(grid_ND)} positions to {patches}")
    grid = grid_ND.reshape(old, old, -1)
    grid = jax.image.resize(grid, (new, new, grid.shape[-1]), method="bicubic")
    return jnp.concatenate([first, grid.reshape(patches, -1).astype(positions_ND.dtype)])
