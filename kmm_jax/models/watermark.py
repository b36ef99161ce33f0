"""A small detector of marks laid over photos: where they are, and whether there are any.

B batch, H and W pixels, h and w cells of 8 x 8 pixels, C channels.

Plain 3 x 3 convolutions throughout: XLA runs them on a processor a hundred times nearer to its peak
than depthwise ones, so that a separable net of as many weights would be slower, not faster.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

CELL = 8
"""Pixels of a side of a cell of the heat map."""

_WIDTHS = (24, 32, 64, 96)  # at strides 2, 4, 8 and 16
_BLOCKS = (0, 1, 2, 2)
_HEAD = 64
_MOMENTUM = 0.98
_AROUND, _GAIN = 5, 3.0  # a step of 20 of 255 is halfway to the largest


class MarkDetector(nnx.Module):
    """A residual net to stride 16, and back to stride 8 for the heat map.

    The score of a picture sees three things: the features where the heat map is hottest (a single
    small mark counts as much as many), the features on average, and the heat itself. None depends
    on the number of cells, so that the net may be trained on crops.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        inputs = [24, *_WIDTHS]
        self.downs = nnx.List(
            _ConvNorm(before, after, stride=1 if number == 0 else 2, rngs=rngs)
            for number, (before, after) in enumerate(zip(inputs, _WIDTHS, strict=False))
        )
        self.blocks = nnx.List(
            nnx.List(_Residual(width, rngs=rngs) for _ in range(blocks))
            for width, blocks in zip(_WIDTHS, _BLOCKS, strict=True)
        )
        self.early = nnx.Linear(_WIDTHS[1], 1, rngs=rngs)
        self.joint = _ConvNorm(sum(_WIDTHS[-2:]), _HEAD, size=1, rngs=rngs)
        self.heat = nnx.Linear(_HEAD, 1, rngs=rngs)
        self.hidden = nnx.Linear(2 * _HEAD + 2, _HEAD, rngs=rngs)
        self.score = nnx.Linear(_HEAD, 1, rngs=rngs)

    def __call__(
        self, image_BHWC: Num[Array, "B H W 3"]
    ) -> tuple[Float[Array, "B"], Float[Array, "B h w"]]:
        """Logits of "this picture is marked" and of "a mark crosses this cell".

        ``image_BHWC`` is uint8; H and W are multiples of 16.
        """
        score_B, heat_Bhw, _ = self.with_early_heat(image_BHWC)
        return score_B, heat_Bhw

    def with_early_heat(
        self, image_BHWC: Num[Array, "B H W 3"]
    ) -> tuple[Float[Array, "B"], Float[Array, "B h w"], Float[Array, "B h w"]]:
        """As a call, and a heat map from stride 4, which in training shows early layers the way."""
        x_BHWC = _halved(_contrast((image_BHWC.astype(jnp.float32) - 128) / 64))
        outputs = []
        for down, blocks in zip(self.downs, self.blocks, strict=True):
            x_BHWC = jax.nn.relu(down(x_BHWC))
            for block in blocks:
                x_BHWC = block(x_BHWC)
            outputs.append(x_BHWC)
        _, early_BHWC, fine_BhwC, coarse_BHWC = outputs
        early_BHW = self.early(early_BHWC)[..., 0]
        batch, height, width = early_BHW.shape
        early_Bhw = early_BHW.reshape(batch, height // 2, 2, width // 2, 2).max((2, 4))
        coarse_BhwC = jnp.repeat(jnp.repeat(coarse_BHWC, 2, axis=1), 2, axis=2)
        x_BhwC = jax.nn.relu(self.joint(jnp.concatenate([fine_BhwC, coarse_BhwC], axis=-1)))
        heat_Bhw = self.heat(x_BhwC)[..., 0]
        return self._pooled(x_BhwC, heat_Bhw), heat_Bhw, early_Bhw

    def _pooled(self, x_BhwC: Array, heat_Bhw: Array) -> Array:
        share_Bhw = jax.nn.softmax(heat_Bhw, axis=(1, 2))
        hottest_BC = jnp.einsum("bhw,bhwc->bc", share_Bhw, x_BhwC)
        hot_B = (share_Bhw * heat_Bhw).sum((1, 2))
        covered_B = jax.nn.sigmoid(heat_Bhw).mean((1, 2))
        pooled = jnp.concatenate(
            [hottest_BC, x_BhwC.mean((1, 2)), jnp.stack([hot_B, covered_B], axis=1)], axis=1
        )
        return self.score(jax.nn.relu(self.hidden(pooled)))[:, 0]


class _ConvNorm(nnx.Module):
    def __init__(
        self, inputs: int, outputs: int, *, size: int = 3, stride: int = 1, rngs: nnx.Rngs
    ):
        self.convolution = nnx.Conv(
            inputs, outputs, (size, size), strides=stride, use_bias=False, rngs=rngs
        )
        self.norm = nnx.BatchNorm(outputs, momentum=_MOMENTUM, rngs=rngs)

    def __call__(self, x_BHWC: Array) -> Array:
        return self.norm(self.convolution(x_BHWC))


class _Residual(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.first = _ConvNorm(width, width, rngs=rngs)
        self.second = _ConvNorm(width, width, rngs=rngs)

    def __call__(self, x_BHWC: Array) -> Array:
        return jax.nn.relu(x_BHWC + self.second(jax.nn.relu(self.first(x_BHWC))))


def _contrast(x_BHWC: Array) -> Array:
    """The pixels, and how each differs from the mean of the 5 x 5 around it.

    Faint marks are small steps: from the pixels alone, training found them many times later.
    """
    around = _AROUND // 2
    padded = jnp.pad(x_BHWC, ((0, 0), (around, around), (around, around), (0, 0)), mode="edge")
    mean = _running_mean(_running_mean(padded, 1), 2)
    return jnp.concatenate([jnp.tanh((x_BHWC - mean) * _GAIN), x_BHWC / 2], axis=-1)


def _running_mean(x: Array, axis: int) -> Array:
    size = x.shape[axis] - _AROUND + 1
    terms = [jax.lax.slice_in_dim(x, at, at + size, axis=axis) for at in range(_AROUND)]
    return sum(terms[1:], start=terms[0]) / _AROUND


def _halved(x_BHWC: Array) -> Array:
    """Each 2 x 2 pixels as one of four times the channels: nothing is lost, half the side."""
    batch, height, width, channels = x_BHWC.shape
    x = x_BHWC.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)
