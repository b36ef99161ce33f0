"""The contrastive loss over the global batch, blockwise and exact.

N global batch, n one device's rows of it, b columns of a block, E embedding.

Every device gathers the texts and meets its own images with them, a block of columns at a time. One
pass over the blocks gives both directions: the softmax over a row is complete at home, the softmax
over a column is put together from every device's part of it (a few vectors of N numbers cross the
network). The backward pass makes each block of logits again, so that neither the N x N logits nor
one device's n x N rows of them ever exist. Against the usual way, which gathers both sides and
multiplies each with the other's rows, it multiplies a third less and scatters half as much.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from kmm_jax.losses.blocks import Plan, block_logits, blocks, make_plan, product

# Where all columns of a block are excluded; infinities would make NaN of their difference.
_LEAST = float(jnp.finfo(jnp.float32).min)


class Stated(NamedTuple):
    """What the texts of a batch say, by codes that are not 0, and what is true of its images.

    Attributes:
        text_N: the code of each text.
        true_NA: of each image the codes of all that is known to be true of it, 0 elsewhere.
    """

    text_N: Int[Array, "N"]
    true_NA: Int[Array, "N A"]


def contrastive_loss(
    image_NE: Float[Array, "N E"],
    text_NE: Float[Array, "N E"],
    scale: Float[Array, ""],
    *,
    mesh: Mesh | None = None,
    axes: Sequence[str] = ("data", "fsdp"),
    block_columns: int | None = None,
    stated: Stated | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Image-to-text plus text-to-image cross-entropy, each the mean over the global batch.

    The sum of both directions, not their mean: CoCa, equation 2 (open_clip and CLIP halve it).

    With a mesh whose ``axes`` span more than one device, each device holds its rows of both inputs.
    Of (N, E) float32, one all-gather crosses the network forward, one again and a reduce-scatter
    backward.

    Args:
        image_NE, text_NE: unit vectors, float32; row i of one belongs to row i of the other.
        scale: 1 / temperature.
        block_columns: texts a block compares with; by default as many as make a block of 64 MiB.
        stated: what texts say and what is true of images. A text that is true of another row's
            image is no counterexample there, in either direction. By default only of its own.

    Returns:
        The loss, and the share of rows whose own counterpart scores above every other, in each
        direction.

    Raises:
        ValueError: the batch does not divide over the devices.
    """
    size = len(image_NE)
    plan = make_plan(size, mesh=mesh, axes=axes, block_columns=block_columns)
    loss, image_hits, text_hits = _loss(plan, image_NE, text_NE, scale, stated)
    return loss / size, {
        "image_to_text_accuracy": image_hits / size,
        "text_to_image_accuracy": text_hits / size,
    }


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(
    plan: Plan, image_NE: Array, text_NE: Array, scale: Array, stated: Stated | None
) -> tuple[Array, Array, Array]:
    """Sums over the global batch: both directions' loss, hits of each."""
    return _forward(plan, image_NE, text_NE, scale, stated)[0]


def _forward(
    plan: Plan, image_NE: Array, text_NE: Array, scale: Array, stated: Stated | None
) -> Any:
    rows, whole = plan.rows, PartitionSpec()
    inputs, outputs = (rows, rows, whole, rows), ((whole,) * 3, rows, rows)
    sums, row_lse_N, column_lse_N = plan.on_each(
        functools.partial(_forward_rows, plan), inputs, outputs
    )(image_NE, text_NE, scale, stated)
    return sums, (image_NE, text_NE, scale, stated, row_lse_N, column_lse_N)


def _backward(plan: Plan, residuals: Any, cotangents: Any) -> tuple[Array, Array, Array, None]:
    rows, whole = plan.rows, PartitionSpec()
    image_NE, text_NE, scale_gradient = plan.on_each(
        functools.partial(_backward_rows, plan),
        (rows, rows, whole, rows, rows, rows),
        (rows, rows, whole),
    )(*residuals)
    weight = cotangents[0]  # that of the hits is zero: they are counts
    return image_NE * weight, text_NE * weight, scale_gradient * weight, None


_loss.defvjp(_forward, _backward)


def _excluded(
    plan: Plan, stated: Stated | None, own_n: Array, size: int
) -> Callable[[Array], Bool[Array, "n b"]] | None:
    """Of columns by number, those that are no counterexamples to this device's rows."""
    if stated is None:
        return None
    text_N = plan.gather(stated.text_N)

    def excluded(number_b: Array) -> Array:
        code_b = jnp.where(number_b < size, text_N[jnp.minimum(number_b, size - 1)], 0)
        true_nb = jnp.any(stated.true_NA[:, None, :] == code_b[None, :, None], axis=-1)
        return true_nb & (code_b != 0) & (own_n[:, None] != number_b)

    return excluded


def _forward_rows(
    plan: Plan, image_nE: Array, text_nE: Array, scale: Array, stated: Stated | None
) -> Any:
    """This device's part: the global sums, and the log-sum-exp of its rows and of its columns."""
    text_NE = plan.gather(text_nE)
    rows, size = len(image_nE), len(text_NE)
    own_n = plan.first_row(rows) + jnp.arange(rows)
    own_logit_n = scale * product("ne,ne->n", image_nE, text_nE)
    excluded = _excluded(plan, stated, own_n, size)

    def block(carry: Any, inputs: Any) -> Any:
        highest_n, sum_n, rival_n = carry
        text_bE, number_b = inputs
        logits_nb = block_logits(image_nE, text_bE, scale)
        logits_nb = jnp.where(number_b < size, logits_nb, -jnp.inf)
        if excluded is not None:
            logits_nb = jnp.where(excluded(number_b), -jnp.inf, logits_nb)
        others_nb = jnp.where(own_n[:, None] == number_b, -jnp.inf, logits_nb)
        higher_n = jnp.maximum(highest_n, logits_nb.max(axis=1))
        sum_n = sum_n * jnp.exp(highest_n - higher_n)
        sum_n += jnp.exp(logits_nb - higher_n[:, None]).sum(axis=1)
        # Behind the last column all is -inf; 0 instead keeps -inf minus -inf away.
        highest_b = jnp.where(number_b < size, jnp.maximum(logits_nb.max(axis=0), _LEAST), 0.0)
        sum_b = jnp.exp(logits_nb - highest_b).sum(axis=0)
        carry = higher_n, sum_n, jnp.maximum(rival_n, others_nb.max(axis=1))
        return carry, (highest_b, sum_b, others_nb.max(axis=0))

    start = tuple(plan.varying(jnp.full(rows, value)) for value in (_LEAST, 0.0, -jnp.inf))
    (highest_n, sum_n, rival_n), columns = jax.lax.scan(block, start, blocks(plan, text_NE))
    part_highest_N, part_sum_N, part_rival_N = (x.reshape(-1)[:size] for x in columns)

    highest_N, rival_N = plan.max(part_highest_N), plan.max(part_rival_N)
    sum_own_n = plan.scatter_sum(part_sum_N * jnp.exp(part_highest_N - highest_N))
    row_lse_n = highest_n + jnp.log(sum_n)
    column_lse_n = highest_N[own_n] + jnp.log(sum_own_n)
    sums = (
        jnp.sum(row_lse_n + column_lse_n - 2 * own_logit_n),
        jnp.sum(own_logit_n > rival_n, dtype=jnp.float32),
        jnp.sum(own_logit_n > rival_N[own_n], dtype=jnp.float32),
    )
    return plan.sum(sums), row_lse_n, column_lse_n


def _backward_rows(
    plan: Plan,
    image_nE: Array,
    text_nE: Array,
    scale: Array,
    stated: Stated | None,
    row_lse_n: Array,
    column_lse_n: Array,
) -> tuple[Array, Array, Array]:
    """Gradients of the summed loss: softmax over rows plus softmax over columns, less the pairs."""
    text_NE, column_lse_N = plan.gather(text_nE), plan.gather(column_lse_n)
    size = len(text_NE)
    text_CbE, number_Cb = blocks(plan, text_NE)
    lse_Cb = jnp.pad(column_lse_N, (0, number_Cb.size - size)).reshape(number_Cb.shape)
    own_n = plan.first_row(len(image_nE)) + jnp.arange(len(image_nE))
    excluded = _excluded(plan, stated, own_n, size)

    def block(carry: tuple[Array, Array], inputs: Any) -> Any:
        image_gradient_nE, scale_gradient = carry
        text_bE, lse_b, number_b = inputs
        logits_nb = block_logits(image_nE, text_bE, scale)
        weight_nb = jnp.exp(logits_nb - row_lse_n[:, None]) + jnp.exp(logits_nb - lse_b)
        weight_nb = jnp.where(number_b < size, weight_nb, 0.0)
        if excluded is not None:
            weight_nb = jnp.where(excluded(number_b), 0.0, weight_nb)
        image_gradient_nE += scale * weight_nb @ text_bE
        scale_gradient += jnp.sum(weight_nb * logits_nb) / scale
        return (image_gradient_nE, scale_gradient), scale * weight_nb.T @ image_nE

    start = jnp.zeros_like(image_nE), plan.varying(jnp.zeros(()))
    (image_gradient_nE, scale_gradient), text_gradient = jax.lax.scan(
        block, start, (text_CbE, lse_Cb, number_Cb)
    )
    text_gradient_NE = text_gradient.reshape(-1, text_NE.shape[1])[:size]
    own = jnp.sum(image_nE * text_nE)
    return (
        image_gradient_nE - 2 * scale * text_nE,
        plan.scatter_sum(text_gradient_NE) - 2 * scale * image_nE,
        plan.sum(scale_gradient - 2 * own),
    )
