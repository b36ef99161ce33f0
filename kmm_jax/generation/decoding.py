"""Latents to pixels: whole, or tile by tile where a picture is too large to decode at once.

B batch, H height, W width, h w Z of the latents.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from kmm_jax.models.diffusion.autoencoder import Autoencoder

OVERLAP = 4
"""A tile shares one part in this many of its side with the next."""


def to_uint8(image_BHWC: Float[Array, "B H W 3"]) -> UInt8[Array, "B H W 3"]:
    """Pixels from -1 to 1 as bytes."""
    return jnp.round(jnp.clip(image_BHWC / 2 + 0.5, 0, 1) * 255).astype(jnp.uint8)


def decode(
    vae: Autoencoder, z_BhwZ: Float[Array, "B h w Z"], *, tile: int = 0
) -> Float[Array, "B H W 3"]:
    """The pictures of scaled latents, about -1 to 1, one picture after the other.

    Memory then grows with the picture and not with the batch: the first feature map of a decoder
    of SD 1.5 takes 268 MB a picture of 512 pixels in float32.

    Args:
        tile: latents along a side of a tile; 0 decodes each picture whole.
    """

    def one(z_hwZ: Array) -> Array:
        if tile and max(z_hwZ.shape[:2]) > tile:
            return _tiled(vae, z_hwZ, tile)
        return vae.decode(z_hwZ[None])[0]

    if z_BhwZ.shape[0] == 1:
        return one(z_BhwZ[0])[None]
    return jax.lax.map(one, z_BhwZ)


def starts(length: int, tile: int) -> list[int]:
    """Where tiles begin along a side: the last ends with the side, neighbours overlap."""
    if length <= tile:
        return [0]
    step = tile - tile // OVERLAP
    count = -(-(length - tile) // step)
    return [min(number * step, length - tile) for number in range(count + 1)]


def _tiled(vae: Autoencoder, z_hwZ: Array, tile: int) -> Array:
    """One picture from overlapping tiles, each fading into its neighbours.

    Attention and group norms of the decoder then see a tile only, so colours may differ a little
    from one tile to the next: the fading hides it.
    """
    height, width, _ = z_hwZ.shape
    factor = vae.config.factor
    rows, columns = min(tile, height), min(tile, width)
    corners = jnp.asarray(
        [(top, left) for top in starts(height, tile) for left in starts(width, tile)]
    )
    weight = jnp.asarray(np.outer(_fade(rows * factor), _fade(columns * factor))[..., None])

    def add(sums: tuple[Array, Array], corner: Array) -> tuple[tuple[Array, Array], None]:
        image, weights = sums
        part = jax.lax.dynamic_slice(
            z_hwZ, (corner[0], corner[1], 0), (rows, columns, z_hwZ.shape[-1])
        )
        pixels = vae.decode(part[None])[0]
        place = (corner[0] * factor, corner[1] * factor, 0)

        def onto(whole: Array, more: Array) -> Array:
            here = jax.lax.dynamic_slice(whole, place, more.shape)
            return jax.lax.dynamic_update_slice(whole, here + more, place)

        return (onto(image, pixels * weight), onto(weights, weight)), None

    side = (height * factor, width * factor)
    empty = (
        jnp.zeros((*side, vae.config.in_channels), jnp.float32),
        jnp.zeros((*side, 1), jnp.float32),
    )
    (image, weights), _ = jax.lax.scan(add, empty, corners)
    return image / weights


def _fade(length: int) -> np.ndarray:
    """Weights along a side of a tile: rising over the overlap, 1 between."""
    edge = max(1, length // OVERLAP)
    ramp = (np.arange(length) + 0.5) / edge
    return np.minimum(1.0, np.minimum(ramp, ramp[::-1])).astype(np.float32)
