"""The loss between two views of every picture (NT-Xent; SimCLR, arXiv 2002.05709, equation 1).

N pictures of the global batch, n one device's, m = 2n and M = 2N their views, b columns of a block,
E embedding.

Every device gathers all views and meets its own with them, a block of columns at a time. The
backward pass makes each block of logits again: neither the M x M logits nor one device's m x M rows
of them are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from kmm_jax.losses.blocks import Plan, block_logits, blocks, make_plan, product

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
    size = len(first_NE)
    plan = make_plan(size, mesh=mesh, axes=axes, block_columns=block_columns, vectors=2)
    rows, whole = plan.rows, PartitionSpec()
    loss, hits = plan.on_each(
        functools.partial(_sums, plan, 1 / temperature), (rows, rows), (whole, whole)
    )(first_NE, second_NE)
    return loss / (2 * size), {"view_accuracy": hits / (2 * size)}


def _sums(plan: Plan, scale: float, first_nE: Array, second_nE: Array) -> tuple[Array, Array]:
    """Over all views of the global batch: the summed loss, and how many were found."""
    rows = len(first_nE)
    view_mE = jnp.concatenate([first_nE, second_nE])
    view_ME = jnp.concatenate([plan.gather(first_nE), plan.gather(second_nE)])
    total = len(view_ME)
    own_n = plan.first_row(rows) + jnp.arange(rows)
    own_m = jnp.concatenate([own_n, total // 2 + own_n])
    counterpart_m = (own_m + total // 2) % total
    pair_m = jnp.tile(scale * product("ne,ne->n", first_nE, second_nE), 2)

    # Without the checkpoint the scan would keep every block for its backward pass.
    @jax.checkpoint
    def block(carry: Any, inputs: Any) -> tuple[Any, None]:
        highest_m, sum_m, rival_m = carry
        view_bE, number_b = inputs
        logits_mb = block_logits(view_mE, view_bE, scale)
        left_out_mb = (own_m[:, None] == number_b) | (number_b >= total)
        logits_mb = jnp.where(left_out_mb, -jnp.inf, logits_mb)
        fixed_mb = jax.lax.stop_gradient(logits_mb)
        others_mb = jnp.where(counterpart_m[:, None] == number_b, -jnp.inf, fixed_mb)
        higher_m = jnp.maximum(highest_m, fixed_mb.max(axis=1))
        sum_m = sum_m * jnp.exp(highest_m - higher_m)
        sum_m += jnp.exp(logits_mb - higher_m[:, None]).sum(axis=1)
        return (higher_m, sum_m, jnp.maximum(rival_m, others_mb.max(axis=1))), None

    lowest_m = plan.varying(jnp.full(2 * rows, _LOWEST))
    begin = lowest_m, plan.varying(jnp.zeros(2 * rows)), lowest_m
    (highest_m, sum_m, rival_m), _ = jax.lax.scan(block, begin, blocks(plan, view_ME))
    loss = jnp.sum(highest_m + jnp.log(sum_m) - pair_m)
    hits = jnp.sum(pair_m > rival_m, dtype=jnp.float32)
    return plan.sum((loss, hits))
