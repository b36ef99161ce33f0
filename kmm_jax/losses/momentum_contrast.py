"""The contrast of a student's queries with a teacher's keys (MoCo v3, arXiv 2104.02057).

N global batch, n one device's rows of it, b columns of a block, E embedding.

Every device gathers the keys, which get no gradient, and meets its own queries with them a block of
columns at a time, as the symmetric loss does (``contrastive``); the backward pass makes each block
of logits again. One all-gather of (N, E) float32 crosses the network in each pass and nothing else.
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


def momentum_contrast(
    query_NE: Float[Array, "N E"],
    key_NE: Float[Array, "N E"],
    scale: Float[Array, ""],
    *,
    mesh: Mesh | None = None,
    axes: Sequence[str] = ("data", "fsdp"),
    block_columns: int | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy of each query against all keys, the mean over the global batch.

    This is ``ctr(student, teacher)`` of slides 3.3 without the factor ``2 tau`` of MoCo v3, which
    is its caller's.

    Args:
        query_NE, key_NE: unit vectors, float32; row i of one belongs to row i of the other.
        scale: 1 / temperature.
        block_columns: keys a block compares with; by default as many as make a block of 64 MiB.

    Returns:
        The loss, and the share of queries whose own key scores above every other.

    Raises:
        ValueError: the batch does not divide over the devices.
    """
    size = len(query_NE)
    plan = make_plan(size, mesh=mesh, axes=axes, block_columns=block_columns)
    loss, hits = _loss(plan, query_NE, jax.lax.stop_gradient(key_NE), scale)
    return loss / size, hits / size


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(plan: Plan, query_NE: Array, key_NE: Array, scale: Array) -> tuple[Array, Array]:
    """Sums over the global batch: the loss, and the hits."""
    return _forward(plan, query_NE, key_NE, scale)[0]


def _forward(plan: Plan, query_NE: Array, key_NE: Array, scale: Array) -> Any:
    rows, whole = plan.rows, PartitionSpec()
    sums, lse_N = plan.on_each(
        functools.partial(_forward_rows, plan), (rows, rows, whole), ((whole, whole), rows)
    )(query_NE, key_NE, scale)
    return sums, (query_NE, key_NE, scale, lse_N)


def _backward(plan: Plan, residuals: Any, cotangents: Any) -> tuple[Array, Array, Array]:
    rows, whole = plan.rows, PartitionSpec()
    query_NE, scale = plan.on_each(
        functools.partial(_backward_rows, plan), (rows, rows, whole, rows), (rows, whole)
    )(*residuals)
    weight = cotangents[0]  # that of the hits is zero: they are counts
    return query_NE * weight, jnp.zeros_like(query_NE), scale * weight


_loss.defvjp(_forward, _backward)


def _forward_rows(plan: Plan, query_nE: Array, key_nE: Array, scale: Array) -> Any:
    key_NE = plan.gather(key_nE)
    rows, size = len(query_nE), len(key_NE)
    own_n = plan.first_row(rows) + jnp.arange(rows)
    own_logit_n = scale * product("ne,ne->n", query_nE, key_nE)

    def block(carry: Any, inputs: Any) -> Any:
        highest_n, sum_n, rival_n = carry
        key_bE, number_b = inputs
        logits_nb = jnp.where(number_b < size, block_logits(query_nE, key_bE, scale), -jnp.inf)
        others_nb = jnp.where(own_n[:, None] == number_b, -jnp.inf, logits_nb)
        higher_n = jnp.maximum(highest_n, logits_nb.max(axis=1))
        sum_n = sum_n * jnp.exp(highest_n - higher_n)
        sum_n += jnp.exp(logits_nb - higher_n[:, None]).sum(axis=1)
        return (higher_n, sum_n, jnp.maximum(rival_n, others_nb.max(axis=1))), None

    least_n = plan.varying(jnp.full(rows, -jnp.inf))
    start = least_n, plan.varying(jnp.zeros(rows)), least_n
    (highest_n, sum_n, rival_n), _ = jax.lax.scan(block, start, blocks(plan, key_NE))
    lse_n = highest_n + jnp.log(sum_n)
    sums = jnp.sum(lse_n - own_logit_n), jnp.sum(own_logit_n > rival_n, dtype=jnp.float32)
    return plan.sum(sums), lse_n


def _backward_rows(
    plan: Plan, query_nE: Array, key_nE: Array, scale: Array, lse_n: Array
) -> tuple[Array, Array]:
    """Gradients of the summed loss: the softmax over the keys, less the own key."""
    key_NE = plan.gather(key_nE)
    size = len(key_NE)

    def block(carry: tuple[Array, Array], inputs: Any) -> Any:
        query_gradient_nE, scale_gradient = carry
        key_bE, number_b = inputs
        logits_nb = block_logits(query_nE, key_bE, scale)
        weight_nb = jnp.where(number_b < size, jnp.exp(logits_nb - lse_n[:, None]), 0.0)
        query_gradient_nE += scale * weight_nb @ key_bE
        scale_gradient += jnp.sum(weight_nb * logits_nb) / scale
        return (query_gradient_nE, scale_gradient), None

    start = jnp.zeros_like(query_nE), plan.varying(jnp.zeros(()))
    (query_gradient_nE, scale_gradient), _ = jax.lax.scan(block, start, blocks(plan, key_NE))
    own = jnp.sum(query_nE * key_nE)
    return query_gradient_nE - scale * key_nE, plan.sum(scale_gradient - own)
