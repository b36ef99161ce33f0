"""A convolutional stem, in place of one linear projection of each patch (arXiv 2106.14881).

B batch, H and W pixels or cells of the grid, N patches, C channels, D width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def stem_channels(patch_size: int, width: int) -> list[int]:
    """Output channels of the stem's convolutions: doubling up to ``width``, one a halving.

    Raises:
        ValueError: the patch is no power of two, or the width cannot be halved that often.
    """
    halvings = patch_size.bit_length() - 1
    if patch_size < 2 or patch_size != 1 << halvings:
        raise ValueError(f"a conv stem needs a patch_size of 2, 4, 8, 16 ..., got {patch_size}")
    if width % (1 << (halvings - 1)):
        raise ValueError(
            f"a conv stem over patches of {patch_size} halves the width {halvings - 1} times, and "
            f"width {width} does not divide by {1 << (halvings - 1)}"
        )
    return [width >> (halvings - 1 - number) for number in range(halvings)]


class ConvStem(nnx.Module):
    """Convolutions of 3 x 3 with stride 2, each normalised and activated, then a projection.

    Convolutions see edges and shapes wherever they lie, which a Vision Transformer otherwise has to
    learn from many more pictures. Xiao et al. use batch norm and ReLU; LayerNorm and GELU here are
    our choice: they need no statistics of the batch and are what the other layers use.
    """

    def __init__(
        self,
        patch_size: int,
        width: int,
        *,
        norm_epsilon: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        channels = stem_channels(patch_size, width)
        self.convolutions = nnx.List(
            nnx.Conv(inputs, outputs, (3, 3), strides=2, use_bias=False, dtype=dtype, rngs=rngs)
            for inputs, outputs in zip([3, *channels], channels, strict=False)
        )
        self.norms = nnx.List(
            nnx.LayerNorm(each, epsilon=norm_epsilon, dtype=dtype, rngs=rngs) for each in channels
        )
        self.projection = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, image_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B N D"]:
        """One vector a patch of normalised pixels, rows first."""
        x_BHWC = image_BHWC
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x_BHWC = jax.nn.gelu(norm(convolution(x_BHWC)))
        return self.projection(x_BHWC.reshape(x_BHWC.shape[0], -1, x_BHWC.shape[-1]))
