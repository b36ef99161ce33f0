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
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

# Elements of a block of logits, 64 MiB in float32: large enough to keep a matrix unit busy, small
# beside a model's activations.
_BLOCK_ELEMENTS = 2**24
_LEAST_COLUMNS = 128


def contrastive_loss(
    image_NE: Float[Array, "N E"],
    text_NE: Float[Array, "N E"],
    scale: Float[Array, ""],
    *,
    mesh: Mesh | None = None,
    axes: Sequence[str] = ("data", "fsdp"),
    block_columns: int | None = None,
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

    Returns:
        The loss, and the share of rows whose own counterpart scores above every other, in each
        direction.

    Raises:
        ValueError: the batch does not divide over the devices.
    """
    axes = tuple(axis for axis in axes if mesh is not None and axis in mesh.shape)
    devices = math.prod(mesh.shape[axis] for axis in axes) if mesh is not None else 1
    size = len(image_NE)
    if size % devices:
        raise ValueError(f"a contrastive batch of {size} does not divide over {devices} devices")
    if devices == 1:
        mesh, axes = None, ()
    columns = block_columns or max(_BLOCK_ELEMENTS // (size // devices), _LEAST_COLUMNS)
    loss, image_hits, text_hits = _loss(
        _Plan(mesh=mesh, axes=axes, columns=min(columns, size)), image_NE, text_NE, scale
    )
    return loss / size, {
        "image_to_text_accuracy": image_hits / size,
        "text_to_image_accuracy": text_hits / size,
    }


class _Plan(NamedTuple):
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
        return PartitionSpec(self.axes)

    def gather(self, x_n: Array) -> Array:
        return jax.lax.all_gather(x_n, self.axes, tiled=True) if self.axes else x_n

    def scatter_sum(self, x_N: Array) -> Array:
        return jax.lax.psum_scatter(x_N, self.axes, tiled=True) if self.axes else x_N

    def sum(self, x: Any) -> Any:
        return jax.lax.psum(x, self.axes) if self.axes else x

    def max(self, x: Array) -> Array:
        return jax.lax.pmax(x, self.axes) if self.axes else x

    def varying(self, x: Array) -> Array:
        """A constant as one that may differ between devices, as a scan's carry must begin."""
        return jax.lax.pcast(x, self.axes, to="varying") if self.axes else x

    def first_row(self, rows: int) -> Array | int:
        return jax.lax.axis_index(self.axes) * rows if self.axes else 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(plan: _Plan, image_NE: Array, text_NE: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Sums over the global batch: both directions' loss, hits of each."""
    return _forward(plan, image_NE, text_NE, scale)[0]


def _forward(plan: _Plan, image_NE: Array, text_NE: Array, scale: Array) -> Any:
    rows, whole = plan.rows, PartitionSpec()
    inputs, outputs = (rows, rows, whole), ((whole,) * 3, rows, rows)
    sums, row_lse_N, column_lse_N = plan.on_each(
        functools.partial(_forward_rows, plan), inputs, outputs
    )(image_NE, text_NE, scale)
    return sums, (image_NE, text_NE, scale, row_lse_N, column_lse_N)


def _backward(plan: _Plan, residuals: Any, cotangents: Any) -> tuple[Array, Array, Array]:
    rows, whole = plan.rows, PartitionSpec()
    image_NE, text_NE, scale_gradient = plan.on_each(
        functools.partial(_backward_rows, plan),
        (rows, rows, whole, rows, rows),
        (rows, rows, whole),
    )(*residuals)
    weight = cotangents[0]  # that of the hits is zero: they are counts
    return image_NE * weight, text_NE * weight, scale_gradient * weight


_loss.defvjp(_forward, _backward)


def _blocks(plan: _Plan, text_NE: Array) -> tuple[Array, Array]:
    """The gathered texts in blocks of columns, zeros behind the last, and the columns' numbers."""
    size, width = text_NE.shape
    count = -(-size // plan.columns)
    padded = jnp.pad(text_NE, ((0, count * plan.columns - size), (0, 0)))
    numbers = jnp.arange(count * plan.columns).reshape(count, plan.columns)
    return padded.reshape(count, plan.columns, width), numbers


def _product(equation: str, left: Array, right: Array) -> Array:
    """In full float32: at a scale of 100 a TensorFloat-32 logit would be off by a tenth."""
    return jnp.einsum(equation, left, right, precision=jax.lax.Precision.HIGHEST)


def _logits(image_nE: Array, text_bE: Array, scale: Array) -> Array:
    return scale * _product("ne,be->nb", image_nE, text_bE)


def _forward_rows(plan: _Plan, image_nE: Array, text_nE: Array, scale: Array) -> Any:
    """This device's part: the global sums, and the log-sum-exp of its rows and of its columns."""
    text_NE = plan.gather(text_nE)
    rows, size = len(image_nE), len(text_NE)
    own_n = plan.first_row(rows) + jnp.arange(rows)
    own_logit_n = scale * _product("ne,ne->n", image_nE, text_nE)

    def block(carry: Any, inputs: Any) -> Any:
        highest_n, sum_n, rival_n = carry
        text_bE, number_b = inputs
        logits_nb = _logits(image_nE, text_bE, scale)
        logits_nb = jnp.where(number_b < size, logits_nb, -jnp.inf)
        others_nb = jnp.where(own_n[:, None] == number_b, -jnp.inf, logits_nb)
        higher_n = jnp.maximum(highest_n, logits_nb.max(axis=1))
        sum_n = sum_n * jnp.exp(highest_n - higher_n)
        sum_n += jnp.exp(logits_nb - higher_n[:, None]).sum(axis=1)
        # Behind the last column all is -inf; 0 instead keeps -inf minus -inf away.
        highest_b = jnp.where(number_b < size, logits_nb.max(axis=0), 0.0)
        sum_b = jnp.exp(logits_nb - highest_b).sum(axis=0)
        carry = higher_n, sum_n, jnp.maximum(rival_n, others_nb.max(axis=1))
        return carry, (highest_b, sum_b, others_nb.max(axis=0))

    least_n = plan.varying(jnp.full(rows, -jnp.inf))
    start = least_n, plan.varying(jnp.zeros(rows)), least_n
    (highest_n, sum_n, rival_n), columns = jax.lax.scan(block, start, _blocks(plan, text_NE))
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
    plan: _Plan,
    image_nE: Array,
    text_nE: Array,
    scale: Array,
    row_lse_n: Array,
    column_lse_n: Array,
) -> tuple[Array, Array, Array]:
    """Gradients of the summed loss: softmax over rows plus softmax over columns, less the pairs."""
    text_NE, column_lse_N = plan.gather(text_nE), plan.gather(column_lse_n)
    size = len(text_NE)
    text_CbE, number_Cb = _blocks(plan, text_NE)
    lse_Cb = jnp.pad(column_lse_N, (0, number_Cb.size - size)).reshape(number_Cb.shape)

    def block(carry: tuple[Array, Array], inputs: Any) -> Any:
        image_gradient_nE, scale_gradient = carry
        text_bE, lse_b, number_b = inputs
        logits_nb = _logits(image_nE, text_bE, scale)
        weight_nb = jnp.exp(logits_nb - row_lse_n[:, None]) + jnp.exp(logits_nb - lse_b)
        weight_nb = jnp.where(number_b < size, weight_nb, 0.0)
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
