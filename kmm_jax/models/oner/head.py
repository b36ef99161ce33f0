"""Projector, predictor, and the batch norm in them (MoCo v3, arXiv 2104.02057).

B batch, D width, E embedding, F features, G passes of a group.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from kmm_jax.models.oner.config import Grouping, HeadConfig

Kind = Literal["image", "text", "both"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# By name: "image", "text", or any other, which is of both (a mixture).
Passes = Mapping[str, Float[Array, "B F"]]


def kind_of(name: str) -> Kind:
    """The kind of a pass."""
    return "image" if name == "image" else "text" if name == "text" else "both"


class BatchNorm(nnx.Module):
    """Batch norm over passes of several kinds, in float32 (see ``HeadConfig.statistics``).

    Means are over the first dimension of the arrays as the program sees them, which over a mesh is
    the global batch: XLA adds the devices' parts.
    """

    def __init__(
        self,
        features: int,
        *,
        grouping: Grouping,
        momentum: float,
        affine: bool,
        epsilon: float = 1e-5,
    ):
        self.grouping = grouping
        self.momentum = momentum
        self.epsilon = epsilon
        rows = len(KINDS) if grouping == "modality" else 1
        self.mean = nnx.BatchStat(jnp.zeros((rows, features)))
        self.variance = nnx.BatchStat(jnp.ones((rows, features)))
        self.affine = affine
        if affine:
            self.scale = nnx.Param(jnp.ones((features,)))
            self.bias = nnx.Param(jnp.zeros((features,)))

    def in_training(self, passes: Passes) -> dict[str, Float[Array, "B F"]]:
        """Normalised by the batch; the running statistics are moved."""
        passes = {name: x_BF.astype(jnp.float32) for name, x_BF in passes.items()}
        groups = [list(passes)] if self.grouping == "joint" else [[name] for name in passes]
        done: dict[str, Array] = {}
        found: dict[int, list[tuple[Array, Array]]] = {}
        for group in groups:
            x_GBF = jnp.stack([passes[name] for name in group])
            mean_F = x_GBF.mean(axis=(0, 1))
            variance_F = jnp.square(x_GBF - mean_F).mean(axis=(0, 1))
            found.setdefault(self._row(kind_of(group[0])), []).append((mean_F, variance_F))
            for name in group:
                done[name] = self._normalised(passes[name], mean_F, variance_F)
        if self.grouping == "modality" and self._row("both") not in found:
            # No pass of both was trained; what comes to them lies between.
            found[self._row("both")] = [one for row in found.values() for one in row]
        self._move(found)
        return {name: done[name] for name in passes}

    def in_use(self, x_BF: Float[Array, "*B F"], kind: Kind) -> Float[Array, "*B F"]:
        """Normalised by the running statistics."""
        row = self._row(kind)
        return self._normalised(x_BF.astype(jnp.float32), self.mean[row], self.variance[row])

    def _row(self, kind: Kind) -> int:
        return KINDS.index(kind) if self.grouping == "modality" else 0

    def _normalised(self, x_BF: Array, mean_F: Array, variance_F: Array) -> Array:
        x_BF = (x_BF - mean_F) * jax.lax.rsqrt(variance_F + self.epsilon)
        return x_BF * self.scale[...] + self.bias[...] if self.affine else x_BF

    def _move(self, found: Mapping[int, list[tuple[Array, Array]]]) -> None:
        """Once a step, by the mean over a row's passes, whatever their order."""
        for row, statistics in found.items():
            for running, of_passes in zip(
                (self.mean, self.variance), zip(*statistics, strict=True), strict=True
            ):
                now_F = jax.lax.stop_gradient(sum(of_passes) / len(of_passes))
                moved_F = self.momentum * running[row] + (1 - self.momentum) * now_F
                running[...] = running[...].at[row].set(moved_F)


class MLP(nnx.Module):
    """Linear layers without bias, each with a batch norm; ReLU after all but the last.

    The last batch norm has no scale and shift. MoCo v3, section 4.1.
    """

    def __init__(self, widths: list[int], config: HeadConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        last = len(widths) - 2
        self.linears = nnx.List(
            nnx.Linear(inputs, outputs, use_bias=False, dtype=dtype, rngs=rngs)
            for inputs, outputs in itertools.pairwise(widths)
        )
        self.norms = nnx.List(
            BatchNorm(
                outputs,
                grouping=config.statistics,
                momentum=config.momentum,
                affine=number < last,
            )
            for number, outputs in enumerate(widths[1:])
        )

    def in_training(self, passes: Passes) -> dict[str, Float[Array, "B F"]]:
        """All passes of a step."""
        x: dict[str, Array] = dict(passes)
        for number, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            x = norm.in_training({name: linear(x_BF) for name, x_BF in x.items()})
            if number < len(self.linears) - 1:
                x = {name: jax.nn.relu(x_BF) for name, x_BF in x.items()}
        return x

    def in_use(self, x_BF: Float[Array, "*B F"], kind: Kind) -> Float[Array, "*B F"]:
        """One pass of a model in use."""
        for number, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            x_BF = norm.in_use(linear(x_BF), kind)
            if number < len(self.linears) - 1:
                x_BF = jax.nn.relu(x_BF)
        return x_BF


class Linear(nnx.Module):
    """One linear layer, with the methods of an MLP."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.linear = nnx.Linear(inputs, outputs, use_bias=False, dtype=dtype, rngs=rngs)

    def in_training(self, passes: Passes) -> dict[str, Float[Array, "B F"]]:
        """All passes of a step."""
        return {name: self.in_use(x_BF, kind_of(name)) for name, x_BF in passes.items()}

    def in_use(self, x_BF: Float[Array, "*B F"], kind: Kind) -> Float[Array, "*B F"]:
        """One pass of a model in use."""
        return self.linear(x_BF).astype(jnp.float32)


class Head(nnx.Module):
    """A projector and, in a student, its predictor; in: [CLS] of the tower, out: float32."""

    def __init__(self, width: int, config: HeadConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        hidden, embedding = config.hidden, config.embedding
        self.projector: MLP | Linear
        if config.kind == "mlp":
            widths = [width, hidden, hidden, embedding]
            self.projector = MLP(widths, config, dtype=dtype, rngs=rngs)
        else:
            self.projector = Linear(width, embedding, dtype=dtype, rngs=rngs)
        self.predictor = (
            MLP([embedding, hidden, embedding], config, dtype=dtype, rngs=rngs)
            if config.predictor
            else None
        )

    def in_training(self, passes: Passes, *, predict: bool) -> dict[str, Float[Array, "B E"]]:
        """Vectors of all passes, by batch statistics; of a student they are predictions."""
        vectors = self.projector.in_training(passes)
        return self.predictor.in_training(vectors) if predict and self.predictor else vectors

    def in_use(self, x_BD: Float[Array, "*B D"], kind: Kind, *, predict: bool) -> Array:
        """Vectors (*B, E) of one pass, by running statistics."""
        vectors_BE = self.projector.in_use(x_BD, kind)
        return self.predictor.in_use(vectors_BE, kind) if predict and self.predictor else vectors_BE
