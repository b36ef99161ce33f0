"""The loss between two views of every picture (NT-Xent; SimCLR, arXiv 2002.05709, equation 1).

N pictures of the global batch, n one device's, m = 2n and M = 2N their views, b columns of a block,
E embedding.

Every device gathers all views and meets its own with them, a block of columns at a time. The
backward pass makes each block of logits again: neither the M x M logits nor one device's m x M rows
of them are kept.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

# Elements of a block of logits, 64 MiB in float32.
_BLOCK_ELEMENTS = 2**24
_LEAST_COLUMNS = 128

# Below every logit, yet a number: its exponential beside any other is 0 and not "not a number".
_LOWEST = -1e30


def simclr_loss(
    first_NE: Float[Array, "N E"],
    second_NE: Float[Array, "N E"],
    *,
    temperature: float = 0.1,
    mesh: Mesh | None = None,
    axes: Sequence[str] = ("data", "fsdp"),
    block_columns: int | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Cross-entropy of each view's counterpart among all views but itself, the mean over 2N views.

    With a mesh whose ``axes`` span more than one device, each device holds its rows of both inputs;
    (2N, E) float32 is gathered forward, and its gradient is summed by scattering backward.

    Args:
        first_NE, second_NE: unit vectors, float32; row i of both is of the same picture.
        block_columns: views a block compares with; by default as many as make a block of 64 MiB.

    Returns:
        The loss, and the share of views whose counterpart is nearer than any other picture's view.

    Raises:
        ValueError: the batch does not divide over the devices.
    """
    axes = tuple(axis for axis in axes if mesh is not None and axis in mesh.shape)
    devices = math.prod(mesh.shape[axis] for axis in axes) if mesh is not None else 1
    size = len(first_NE)
    if size % devices:
        raise ValueError(f"a batch of {size} pictures does not divide over {devices} devices")
    columns = block_columns or max(_BLOCK_ELEMENTS // (2 * size // devices), _LEAST_COLUMNS)
    sums: Callable[..., Any] = functools.partial(
        _sums,
        axes=axes if devices > 1 else (),
        temperature=temperature,
        columns=min(columns, 2 * size),
    )
    if devices > 1:
        rows, whole = PartitionSpec(axes), PartitionSpec()
        sums = jax.shard_map(sums, mesh=mesh, in_specs=(rows, rows), out_specs=(whole, whole))
    loss, hits = sums(first_NE, second_NE)
    return loss / (2 * size), {"view_accuracy": hits / (2 * size)}


def _sums(
    first_nE: Array, second_nE: Array, *, axes: tuple[str, ...], temperature: float, columns: int
) -> tuple[Array, Array]:
    """Over all views of the global batch: the summed loss, and how many were found."""
    rows = len(first_nE)
    view_mE = jnp.concatenate([first_nE, second_nE])
    view_ME = jnp.concatenate([_gathered(first_nE, axes), _gathered(second_nE, axes)])
    total = len(view_ME)
    start = jax.lax.axis_index(axes) * rows if axes else 0
    own_n = start + jnp.arange(rows)
    own_m = jnp.concatenate([own_n, total // 2 + own_n])
    counterpart_m = (own_m + total // 2) % total
    pair_m = jnp.tile(_product("ne,ne->n", first_nE, second_nE) / temperature, 2)

    # Without the checkpoint the scan would keep every block for its backward pass.
    @jax.checkpoint
    def block(carry: Any, inputs: Any) -> tuple[Any, None]:
        highest_m, sum_m, rival_m = carry
        view_bE, number_b = inputs
        logits_mb = _product("me,be->mb", view_mE, view_bE) / temperature
        left_out_mb = (own_m[:, None] == number_b) | (number_b >= total)
        logits_mb = jnp.where(left_out_mb, -jnp.inf, logits_mb)
        fixed_mb = jax.lax.stop_gradient(logits_mb)
        others_mb = jnp.where(counterpart_m[:, None] == number_b, -jnp.inf, fixed_mb)
        higher_m = jnp.maximum(highest_m, fixed_mb.max(axis=1))
        sum_m = sum_m * jnp.exp(highest_m - higher_m)
        sum_m += jnp.exp(logits_mb - higher_m[:, None]).sum(axis=1)
        return (higher_m, sum_m, jnp.maximum(rival_m, others_mb.max(axis=1))), None

    lowest_m = _varying(jnp.full(2 * rows, _LOWEST), axes)
    begin = lowest_m, _varying(jnp.zeros(2 * rows), axes), lowest_m
    (highest_m, sum_m, rival_m), _ = jax.lax.scan(block, begin, _blocks(view_ME, columns))
    loss = jnp.sum(highest_m + jnp.log(sum_m) - pair_m)
    hits = jnp.sum(pair_m > rival_m, dtype=jnp.float32)
    return jax.lax.psum((loss, hits), axes) if axes else (loss, hits)


def _blocks(view_ME: Array, columns: int) -> tuple[Array, Array]:
    """The views in blocks, zeros behind the last, and their numbers."""
    total, width = view_ME.shape
    count = -(-total // columns)
    padded = jnp.pad(view_ME, ((0, count * columns - total), (0, 0)))
    numbers = jnp.arange(count * columns).reshape(count, columns)
    return padded.reshape(count, columns, width), numbers


def _gathered(x_nE: Array, axes: tuple[str, ...]) -> Array:
    return jax.lax.all_gather(x_nE, axes, tiled=True) if axes else x_nE


def _varying(x: Array, axes: tuple[str, ...]) -> Array:
    """A constant as one that may differ between devices, as a scan's carry must begin."""
    return jax.lax.pcast(x, axes, to="varying") if axes else x


def _product(equation: str, left: Array, right: Array) -> Array:
    """In full float32, as the loss between images and texts has it."""
    return jnp.einsum(equation, left, right, precision=jax.lax.Precision.HIGHEST)
