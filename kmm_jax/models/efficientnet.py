"""EfficientNet-B3 for inference, with the weights' names in timm (arXiv 1905.11946, table 1).

B batch, H and W pixels or cells, C channels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from kmm_jax.models.keys import abstract_module

_WIDTH, _DEPTH = 1.2, 1.4  # B3, of B0's
_EPSILON = 1e-5
_SQUEEZE = 0.25
_PARAMS = {"weight": "kernel", "bias": "bias"}
_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


class _Stage(NamedTuple):
    """A row of B0's table: ``repeats`` blocks, of which the first strides."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


_B0 = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def _channels(of_b0: int) -> int:
    """B0's channels widened, to a multiple of 8, by no more than a tenth downwards."""
    wanted = of_b0 * _WIDTH
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


FEATURES = _channels(1280)
"""Channels of the pooled features: 1,536."""


class EfficientNetB3(nnx.Module):
    """Pixels to logits. Batch norms use the statistics they hold.

    Args:
        head: outputs of the linear layers after the pooled features, a ReLU between each two.
    """

    def __init__(self, head: Sequence[int], *, rngs: nnx.Rngs):
        width = _channels(32)
        self.stem = _ConvNorm(3, width, 3, stride=2, rngs=rngs)
        stages = []
        for stage in _B0:
            blocks = []
            for number in range(math.ceil(stage.repeats * _DEPTH)):
                stride = stage.stride if number == 0 else 1
                outputs = _channels(stage.channels)
                blocks.append(_Block(width, outputs, stage.kernel, stride, stage.expand, rngs=rngs))
                width = outputs
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.last = _ConvNorm(width, FEATURES, 1, rngs=rngs)
        self.head = nnx.List(
            nnx.Linear(inputs, outputs, rngs=rngs)
            for inputs, outputs in zip([FEATURES, *head], head, strict=False)
        )

    def __call__(self, image_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B K"]:
        """Logits of normalised pixels."""
        x_BHWC = jax.nn.silu(self.stem(image_BHWC))
        for blocks in self.stages:
            for block in blocks:
                x_BHWC = block(x_BHWC)
        x_BC = jax.nn.silu(self.last(x_BHWC)).mean((1, 2))
        for number, layer in enumerate(self.head):
            x_BC = layer(jax.nn.relu(x_BC) if number else x_BC)
        return x_BC


class _Block(nnx.Module):
    """Widen, filter each channel, weigh the channels, narrow (arXiv 1801.04381, 1709.01507)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expand: int, *, rngs: nnx.Rngs
    ):
        middle = inputs * expand
        self.skips = stride == 1 and inputs == outputs
        self.expand = _ConvNorm(inputs, middle, 1, rngs=rngs) if expand > 1 else None
        self.depthwise = _ConvNorm(middle, middle, kernel, stride=stride, groups=middle, rngs=rngs)
        squeezed = round(inputs * _SQUEEZE)
        self.reduce = nnx.Conv(middle, squeezed, (1, 1), rngs=rngs)
        self.restore = nnx.Conv(squeezed, middle, (1, 1), rngs=rngs)
        self.project = _ConvNorm(middle, outputs, 1, rngs=rngs)

    def __call__(self, x_BHWC: Array) -> Array:
        y_BHWC = x_BHWC if self.expand is None else jax.nn.silu(self.expand(x_BHWC))
        y_BHWC = jax.nn.silu(self.depthwise(y_BHWC))
        gate_B11C = self.restore(jax.nn.silu(self.reduce(y_BHWC.mean((1, 2), keepdims=True))))
        y_BHWC = self.project(y_BHWC * jax.nn.sigmoid(gate_B11C))
        return x_BHWC + y_BHWC if self.skips else y_BHWC


class _ConvNorm(nnx.Module):
    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        rngs: nnx.Rngs,
    ):
        self.stride = stride
        self.convolution = nnx.Conv(
            inputs,
            outputs,
            (size, size),
            strides=stride,
            # As PyTorch pads: alike on both sides, which "SAME" is not where it strides.
            padding=size // 2,
            feature_group_count=groups,
            use_bias=False,
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(outputs, use_running_average=True, epsilon=_EPSILON, rngs=rngs)

    def __call__(self, x_BHWC: Array) -> Array:
        depthwise = self.convolution.feature_group_count > 1
        if depthwise and jax.default_backend() == "cpu":
            return self.norm(_shifted(x_BHWC, self.convolution.kernel[...], self.stride))
        return self.norm(self.convolution(x_BHWC))


def _shifted(x_BHWC: Array, kernel_KK1C: Array, stride: int) -> Array:
    """A depthwise convolution as a sum of shifted products.

    XLA compiles its own for processors to a loop that takes some 50 times as long.
    """
    size = kernel_KK1C.shape[0]
    around = size // 2
    padded = jnp.pad(x_BHWC, ((0, 0), (around, around), (around, around), (0, 0)))
    high, wide = ((side - 1) // stride + 1 for side in x_BHWC.shape[1:3])
    terms = [
        padded[:, row:, at:][:, : stride * high : stride, : stride * wide : stride]
        * kernel_KK1C[row, at, 0]
        for row in range(size)
        for at in range(size)
    ]
    return sum(terms[1:], start=terms[0])


def timm_names(model: EfficientNetB3, head: Sequence[str] = ("classifier",)) -> dict[str, str]:
    """Our name -> timm's, of every parameter and statistic.

    Args:
        head: the names of the linear layers, as many as the model has.
    """
    names: dict[str, str] = {}

    def layer(ours: str, theirs: str, kinds: Mapping[str, str]) -> None:
        names.update({f"{ours}.{kind}": f"{theirs}.{name}" for name, kind in kinds.items()})

    def conv_norm(ours: str, convolution: str, norm: str) -> None:
        layer(f"{ours}.convolution", convolution, {"weight": "kernel"})
        layer(f"{ours}.norm", norm, _NORM)

    conv_norm("stem", "conv_stem", "bn1")
    conv_norm("last", "conv_head", "bn2")
    for number, blocks in enumerate(model.stages):
        for index, block in enumerate(blocks):
            ours, theirs = f"stages.{number}.{index}", f"blocks.{number}.{index}"
            parts = [("depthwise", "conv_dw"), ("project", "conv_pwl")]
            if block.expand is None:
                parts[1] = ("project", "conv_pw")
            else:
                parts.insert(0, ("expand", "conv_pw"))
            for place, (part, convolution) in enumerate(parts, start=1):
                conv_norm(f"{ours}.{part}", f"{theirs}.{convolution}", f"{theirs}.bn{place}")
            layer(f"{ours}.reduce", f"{theirs}.se.conv_reduce", _PARAMS)
            layer(f"{ours}.restore", f"{theirs}.se.conv_expand", _PARAMS)
    for index, theirs in enumerate(head):
        layer(f"head.{index}", theirs, _PARAMS)
    return names


def from_timm(
    weights: Mapping[str, np.ndarray], head: Sequence[str] = ("classifier",)
) -> EfficientNetB3:
    """The model of timm's state dict; ``num_batches_tracked`` is left out.

    Args:
        head: the names of the linear layers after the pooled features.

    Raises:
        ValueError: a tensor is missing, left over, or of another shape; names the first ones.
    """
    sizes = [weights[f"{name}.weight"].shape[0] for name in head if f"{name}.weight" in weights]
    sizes += [1] * (len(head) - len(sizes))  # what is missing is said below
    # Nothing is drawn at random only to be replaced.
    model = abstract_module(lambda rngs: EfficientNetB3(sizes, rngs=rngs))
    names = timm_names(model, head)
    given = {name for name in weights if not name.endswith("num_batches_tracked")}
    wanted = set(names.values())
    if given != wanted:
        raise ValueError(
            f"{len(wanted - given)} tensors are missing {sorted(wanted - given)[:3]} and "
            f"{len(given - wanted)} are not known {sorted(given - wanted)[:3]}"
        )
    graph, state = nnx.split(model)
    flat = []
    for path, variable in nnx.to_flat_state(state):
        ours = ".".join(str(part) for part in path)
        value = _turned(np.asarray(weights[names[ours]], np.float32), ours)
        if value.shape != variable.shape:
            raise ValueError(
                f"{names[ours]} has the shape {weights[names[ours]].shape}, which does not fit "
                f"{ours} of {variable.shape}"
            )
        flat.append((path, variable.replace(jnp.asarray(value))))
    return nnx.merge(graph, nnx.from_flat_state(flat))


def _turned(value: np.ndarray, name: str) -> Any:
    """PyTorch's (out, in, height, width) and (out, in) as Flax keeps them."""
    if not name.endswith("kernel"):
        return value
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
