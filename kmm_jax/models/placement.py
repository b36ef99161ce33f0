"""Where a model's arrays lie while it computes over a mesh.

Left to propagate shardings from parameters that are split over the axis the batch is split over,
XLA's partitioner gathers activations and sums them over that axis instead of gathering weights
(docs/decisions/fsdp.md). Two statements settle it: activations are split by example, and a weight
is gathered over ``fsdp`` just before its use, so that only one layer's weights are ever whole; its
gradient is summed by scattering.

Whoever traces a model over a mesh says so with ``over``; without, all here does nothing and a model
knows of no mesh.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

if TYPE_CHECKING:
    from jax.sharding import AbstractMesh, Mesh

    from kmm_jax.models.partition import Rule

BATCH_AXES = ("data", "fsdp")


class _Placement(NamedTuple):
    mesh: Mesh | AbstractMesh
    rules: Sequence[Rule]


_CURRENT: contextvars.ContextVar[_Placement | None] = contextvars.ContextVar(
    "placement", default=None
)


@contextlib.contextmanager
def over(mesh: Mesh | AbstractMesh, rules: Sequence[Rule]) -> Iterator[None]:
    """Models traced inside compute over this mesh.

    Args:
        mesh: with the axes ``data``, ``fsdp`` and ``tensor``.
        rules: those the parameters lie by; of them a gathered weight keeps its ``tensor`` split.
    """
    token = _CURRENT.set(_Placement(mesh, rules) if mesh.size > 1 else None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def by_example(x: Array) -> Array:
    """``x`` with its first dimension, the examples, over ``data`` and ``fsdp``, the others whole.

    Where the examples do not divide over the devices (in an evaluation, say) ``x`` stays as it is.
    """
    placement = _CURRENT.get()
    if placement is None:
        return x
    mesh = placement.mesh
    if x.shape[0] % (mesh.shape["data"] * mesh.shape["fsdp"]):
        return x
    return _constrained(x, mesh, PartitionSpec(BATCH_AXES))


def gathered(
    weights: Any, *, prefix: str = "", dtype: jnp.dtype | None = None, stacked: bool = False
) -> Any:
    """Weights about to be used, whole over ``fsdp`` and still split over ``tensor``.

    Args:
        weights: nested dicts of arrays.
        prefix: put before each path to find its rule.
        dtype: that of the computation; matrices are cast before they are gathered, which halves
            what crosses the network. The cast is the one the layers would do.
        stacked: these are one layer's slices, without the leading dimension their rules count.
            Otherwise whole stacks among the weights stay split: ``Stack`` gathers their layers.
    """
    placement = _CURRENT.get()
    if placement is None or placement.mesh.shape["fsdp"] == 1:
        return weights

    def place(path: Any, weight: Array) -> Array:
        name = prefix + jax.tree_util.keystr(path, simple=True, separator="/")
        if not stacked and re.search(r"(^|/)layers/", name):
            return weight
        own = _spec(name, weight.ndim, placement.rules, stacked)
        if dtype is not None and weight.ndim >= 2:
            weight = weight.astype(dtype)
            if own is not None:  # else the cast would move behind the gather
                weight = _constrained(weight, placement.mesh, own)
        whole = PartitionSpec(*map(_drop_fsdp, own or ()))
        return _as(weight, placement.mesh, forward=whole, backward=own)

    return jax.tree_util.tree_map_with_path(place, weights)


def scattering_gradient(joined: Array) -> Array:
    """``joined`` itself, whose gradient is summed over the examples by scattering.

    For an array joined from gathered weights where it is used: its gradient is cut up again before
    it reaches them, and XLA sums before it cuts, all of it on every device.
    """
    placement = _CURRENT.get()
    if placement is None or joined.shape[0] % placement.mesh.shape["fsdp"]:
        return joined
    free = [PartitionSpec.UNCONSTRAINED] * (joined.ndim - 1)
    return _as(joined, placement.mesh, forward=None, backward=PartitionSpec("fsdp", *free))


def _as(
    x: Array,
    mesh: Mesh | AbstractMesh,
    *,
    forward: PartitionSpec | None,
    backward: PartitionSpec | None,
) -> Array:
    """``x`` split one way, and its gradient another; None leaves it to XLA."""

    @jax.custom_vjp
    def placed(x: Array) -> Array:
        return _constrained(x, mesh, forward)

    placed.defvjp(
        lambda x: (placed(x), None), lambda _, gradient: (_constrained(gradient, mesh, backward),)
    )
    return placed(x)


def _constrained(x: Array, mesh: Mesh | AbstractMesh, spec: PartitionSpec | None) -> Array:
    if spec is None:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def _spec(name: str, dimensions: int, rules: Sequence[Rule], stacked: bool) -> PartitionSpec | None:
    """How the weight lies by its rule; None where that leaves the dimension to its size."""
    partition = next((found for rule, found in rules if re.fullmatch(rule, name)), None)
    if partition is None or isinstance(partition, str):
        return None
    return PartitionSpec(*list(partition)[int(stacked) :][:dimensions])


def _drop_fsdp(entry: Any) -> Any:
    names = () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
    kept = tuple(name for name in names if name != "fsdp")
    return kept[0] if len(kept) == 1 else kept or None
