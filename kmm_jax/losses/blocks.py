"""How a batch's vectors meet over a mesh, a block of columns at a time.

N global batch, n one device's rows of it, b columns of a block, C blocks, E embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

# Elements of a block of logits, 64 MiB in float32: large enough to keep a matrix unit busy, small
# beside a model's activations.
_BLOCK_ELEMENTS = 2**24
_LEAST_COLUMNS = 128


class Plan(NamedTuple):
    """What is fixed when the loss is traced; no mesh and no axes on one device."""

    mesh: Mesh | None
    axes: tuple[str, ...]
    columns: int

    def on_each(self, function: Callable[..., Any], inputs: Any, outputs: Any) -> Any:
        """``function`` on every device's rows; on one device, itself."""
        if self.mesh is None:
            return function
        return jax.shard_map(function, mesh=self.mesh, in_specs=inputs, out_specs=outputs)

    @property
    def rows(self) -> PartitionSpec:
        """How a batch's rows lie."""
        return PartitionSpec(self.axes)

    def gather(self, x_n: Array) -> Array:
        """Every device's rows, on all of them."""
        return jax.lax.all_gather(x_n, self.axes, tiled=True) if self.axes else x_n

    def scatter_sum(self, x_N: Array) -> Array:
        """The sum over devices, each keeping its rows."""
        return jax.lax.psum_scatter(x_N, self.axes, tiled=True) if self.axes else x_N

    def sum(self, x: Any) -> Any:
        """The sum over devices."""
        return jax.lax.psum(x, self.axes) if self.axes else x

    def max(self, x: Array) -> Array:
        """The largest over devices."""
        return jax.lax.pmax(x, self.axes) if self.axes else x

    def varying(self, x: Array) -> Array:
        """A constant as one that may differ between devices, as a scan's carry must begin."""
        return jax.lax.pcast(x, self.axes, to="varying") if self.axes else x

    def first_row(self, rows: int) -> Array | int:
        """The number of this device's first row."""
        return jax.lax.axis_index(self.axes) * rows if self.axes else 0


def make_plan(
    size: int,
    *,
    mesh: Mesh | None,
    axes: Sequence[str],
    block_columns: int | None = None,
    vectors: int = 1,
) -> Plan:
    """The plan for a batch of ``size``.

    Args:
        axes: those the batch is split over.
        block_columns: by default as many as make a block of 64 MiB.
        vectors: that an example brings to each side.

    Raises:
        ValueError: the batch does not divide over the devices.
    """
    axes = tuple(axis for axis in axes if mesh is not None and axis in mesh.shape)
    devices = math.prod(mesh.shape[axis] for axis in axes) if mesh is not None else 1
    if size % devices:
        raise ValueError(f"a contrastive batch of {size} does not divide over {devices} devices")
    if devices == 1:
        mesh, axes = None, ()
    rows = vectors * size // devices
    columns = block_columns or max(_BLOCK_ELEMENTS // rows, _LEAST_COLUMNS)
    return Plan(mesh=mesh, axes=axes, columns=min(columns, vectors * size))


def blocks(
    plan: Plan, gathered_NE: Float[Array, "N E"]
) -> tuple[Float[Array, "C b E"], Int[Array, "C b"]]:
    """Gathered vectors in blocks of columns, zeros behind the last, and the columns' numbers."""
    size, width = gathered_NE.shape
    count = -(-size // plan.columns)
    padded = jnp.pad(gathered_NE, ((0, count * plan.columns - size), (0, 0)))
    numbers = jnp.arange(count * plan.columns).reshape(count, plan.columns)
    return padded.reshape(count, plan.columns, width), numbers


def product(equation: str, left: Array, right: Array) -> Array:
    """In full float32: at a scale of 100 a TensorFloat-32 logit would be off by a tenth."""
    return jnp.einsum(equation, left, right, precision=jax.lax.Precision.HIGHEST)


def block_logits(
    row_nE: Float[Array, "n E"], column_bE: Float[Array, "b E"], scale: float | Float[Array, ""]
) -> Float[Array, "n b"]:
    """Scaled cosines of unit vectors."""
    return scale * product("ne,be->nb", row_nE, column_bE)
