"""What stands in a device's memory at the fullest moment of a step, counted by hand."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import jax

from kmm_jax.data.config import batch_shapes
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.setup import Setup

# The runtime, its collectives' buffers and fragmentation; XLA_PYTHON_CLIENT_MEM_FRACTION=.9.
USABLE = 0.9
_BATCHES = 2  # the one in hand and the next, already on its way


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device.

    Attributes:
        parameters, optimizer, average, gradients: this device's share of them.
        weights: copies in the dtype of the computation, and with ``fsdp`` those gathered for it:
            two layers, and all outside the stacks with their gradient.
        activations: at the peak of forward and backward pass, and of the loss over the batch,
            which is computed while the former are kept.
        batch: the input.
    """

    parameters: float
    optimizer: float
    average: float
    gradients: float
    weights: float
    activations: float
    batch: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(getattr(self, field.name) for field in dataclasses.fields(self))


def memory(
    experiment: Experiment, setup: Setup, *, per_example: float, over_batch: float
) -> Memory:
    """Count it.

    Args:
        per_example, over_batch: of activations, see ``step.Traced``.
    """
    mesh, state = setup.mesh, setup.abstract
    rows = experiment.global_batch_size // (mesh.shape["data"] * mesh.shape["fsdp"])
    part = rows // experiment.accumulate
    gradients = _share(setup.trained.part(state.params))
    if experiment.accumulate > 1:
        gradients *= 2  # the sum so far, and one part's
    batch = sum(
        math.prod(shape) * jax.numpy.dtype(dtype).itemsize
        for shape, dtype in batch_shapes(experiment.data, rows).values()
    )
    return Memory(
        parameters=_share(state.params),
        optimizer=_share(state.opt_state),
        average=0.0 if state.ema is None else _share(state.ema),
        gradients=gradients,
        weights=_weights(experiment, setup),
        activations=per_example * part + over_batch,
        batch=float(batch * _BATCHES),
    )


def _share(tree: Any) -> float:
    """Bytes of this device's part."""
    return float(
        sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(tree)
        )
    )


def _weights(experiment: Experiment, setup: Setup) -> float:
    tensor, gathered = setup.mesh.shape["tensor"], setup.mesh.shape["fsdp"] > 1
    model = getattr(experiment.task, "model", None)
    dtype = jax.numpy.dtype(getattr(model, "dtype", "float32"))
    layers: dict[str, float] = {}
    outside = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(setup.abstract.params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        split = tensor if "tensor" in str(leaf.sharding.spec) else 1
        if stack := re.match(r"(.*(?:^|/)layers)/", name):
            one = leaf.size / leaf.shape[0] / split * dtype.itemsize
            layers[stack[1]] = layers.get(stack[1], 0.0) + one
        else:
            cast = leaf.size / split * dtype.itemsize if leaf.ndim >= 2 else 0.0
            whole = leaf.size / split * leaf.dtype.itemsize
            outside += cast + (2 * whole if gathered and "fsdp" in str(leaf.sharding.spec) else 0)
    return 2 * max(layers.values(), default=0.0) + outside
