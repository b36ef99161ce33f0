"""Tables of names: which tensor of another library is which parameter here, in both directions.

A rule names one tensor there and the parameters here that it holds, and how they lie in it. A name
there may have a ``{layer}``: a stack of layers is one parameter here, with a leading dimension.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.interop.weights import Weights

LAYER = "{layer}"
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Layout:
    """How parameters lie in a tensor of another library.

    Attributes:
        taken: the tensor -> the parameters it holds.
        put: these -> the tensor; undoes ``taken``.
    """

    taken: Callable[[np.ndarray], list[np.ndarray]]
    put: Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rule:
    """One tensor there, and the parameters here that it holds.

    Attributes:
        theirs: its name, perhaps with a ``{layer}``.
        ours: flat names, as ``native.flatten`` gives them; several share a fused tensor.
    """

    theirs: str
    ours: tuple[str, ...]
    layout: Layout

    @property
    def stacked(self) -> bool:
        """Whether there is such a tensor for each layer."""
        return LAYER in self.theirs


SAME = Layout(lambda x: [x], lambda parts: parts[0])
"""As it is."""

TURNED = Layout(lambda x: [x.T], lambda parts: parts[0].T)
"""The weight of a linear layer: PyTorch keeps (out, in), Flax (in, out)."""

FUSED = Layout(
    lambda x: [part.T for part in np.split(x, 3)],
    lambda parts: np.concatenate([part.T for part in parts]),
)
"""Weights of query, key and value in one (3 out, in)."""

FUSED_BIAS = Layout(lambda x: np.split(x, 3), np.concatenate)
"""Their biases in one (3 out,)."""

SCALAR = Layout(lambda x: [x.reshape(())], lambda parts: parts[0].reshape(()))
"""One number, whether or not it has a dimension there."""

ROW = Layout(lambda x: [x.reshape(-1)], lambda parts: parts[0].reshape(1, 1, -1))
"""One vector, which timm keeps as (1, 1, D)."""

TABLE = Layout(lambda x: [x.reshape(x.shape[-2:])], lambda parts: parts[0][None])
"""A vector a position, which timm keeps as (1, S, D)."""


def patches(patch_size: int) -> Layout:
    """A convolution that does not overlap, (D, 3, P, P), is a linear layer here, (P P 3, D)."""

    def taken(x: np.ndarray) -> list[np.ndarray]:
        return [x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])]

    def put(parts: Sequence[np.ndarray]) -> np.ndarray:
        (kernel,) = parts
        square = kernel.reshape(patch_size, patch_size, -1, kernel.shape[-1])
        return square.transpose(3, 2, 0, 1)

    return Layout(taken, put)


def norm(theirs: str, ours: str) -> list[Rule]:
    """A LayerNorm."""
    return [
        Rule(f"{theirs}.weight", (f"{ours}.scale",), SAME),
        Rule(f"{theirs}.bias", (f"{ours}.bias",), SAME),
    ]


def linear(theirs: str, ours: str, *, bias: bool = True) -> list[Rule]:
    """A linear layer."""
    rules = [Rule(f"{theirs}.weight", (f"{ours}.kernel",), TURNED)]
    return [*rules, Rule(f"{theirs}.bias", (f"{ours}.bias",), SAME)] if bias else rules


def fused_projections(weight: str, bias: str, ours: str) -> list[Rule]:
    """Query, key and value of an attention in one tensor."""
    parts = [f"{ours}.{each}" for each in ("query", "key", "value")]
    return [
        Rule(weight, tuple(f"{part}.kernel" for part in parts), FUSED),
        Rule(bias, tuple(f"{part}.bias" for part in parts), FUSED_BIAS),
    ]


def torch_attention(theirs: str, ours: str) -> list[Rule]:
    """``torch.nn.MultiheadAttention`` over inputs of one width."""
    return [
        *fused_projections(f"{theirs}.in_proj_weight", f"{theirs}.in_proj_bias", ours),
        *linear(f"{theirs}.out_proj", f"{ours}.out"),
    ]


def taken(
    rules: Sequence[Rule],
    weights: Weights,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    ignored: str = "",
    dtype: np.typing.DTypeLike = np.float32,
) -> dict[str, np.ndarray]:
    """The parameters here of the tensors there, one tensor read at a time.

    Args:
        shapes: of all parameters here.
        ignored: a regular expression of names there that hold nothing to keep.
        dtype: of the parameters, whatever it is there.

    Raises:
        DataError: a tensor is missing, left over or of another shape; the first ones are named.
    """
    numbered = {rule: _numbers(rule, shapes) for rule in rules}
    wanted = {_name(rule, number) for rule, numbers in numbered.items() for number in numbers}
    covered = {ours for rule in rules for ours in rule.ours}
    assert covered == set(shapes), f"the table leaves out {sorted(covered ^ set(shapes))[:3]}"
    missing = sorted(wanted - set(weights))
    left = sorted(
        name for name in set(weights) - wanted if not (ignored and re.fullmatch(ignored, name))
    )
    if missing or left:
        raise DataError(
            f"{weights.path} does not fit this model: {_some('missing', missing)}; "
            f"{_some('not known', left)}"
        )
    found = {name: np.empty(shape, dtype) for name, shape in shapes.items()}
    for rule, numbers in numbered.items():
        for number in numbers:
            theirs = _name(rule, number)
            parts = rule.layout.taken(weights[theirs])
            for ours, part in zip(rule.ours, parts, strict=True):
                place = found[ours] if number is None else found[ours][number]
                if place.shape != part.shape:
                    raise DataError(
                        f"{weights.path}: {theirs} has the shape {weights.shape(theirs)}, which "
                        f"does not fit {ours} of {place.shape}"
                    )
                place[...] = part
    return found


def put(
    rules: Sequence[Rule], params: Mapping[str, Any], *, dtype: str = "float32"
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors there of the parameters here, one at a time; undoes ``taken``."""
    shapes = {name: tuple(value.shape) for name, value in params.items()}
    for rule in rules:
        for number in _numbers(rule, shapes):
            parts = [
                np.asarray(params[ours] if number is None else params[ours][number])
                for ours in rule.ours
            ]
            yield _name(rule, number), np.asarray(rule.layout.put(parts), dtype)


def _numbers(rule: Rule, shapes: Mapping[str, tuple[int, ...]]) -> Sequence[int | None]:
    return range(shapes[rule.ours[0]][0]) if rule.stacked else (None,)


def _name(rule: Rule, number: int | None) -> str:
    return rule.theirs if number is None else rule.theirs.replace(LAYER, str(number))


def _some(what: str, names: Sequence[str]) -> str:
    if not names:
        return f"nothing {what}"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what} {', '.join(names[:_SHOWN])}{more}"
