"""The gradients of a batch, whole or in parts that follow each other to save memory.

P parts, n examples of one, N of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kmm_jax.models import placement
from kmm_jax.training.sharding import BATCH_AXES
from kmm_jax.training.task import SplitTask, Task, with_teacher

Batch = Mapping[str, jax.Array]
Gradients = Callable[[Any, Any, Batch, jax.Array], tuple[jax.Array, dict[str, Any], Any]]
Model = Callable[[Any], Any]


def gradients(
    task: Task,
    graphdef: nnx.GraphDef[Any],
    mesh: Mesh,
    *,
    parts: int,
    model: Model = lambda params: params,
) -> Gradients:
    """``(params, teacher, batch, key) -> (loss, metrics, gradients)``, computed in ``parts``.

    ``teacher`` are the parameters of the average; only a ``TaughtTask`` looks at them.

    Args:
        model: the module's parameters from those that the gradients are of.
    """
    if parts == 1:
        return _whole(task, graphdef, mesh, model)
    if isinstance(task, SplitTask):
        return _two_passes(task, graphdef, mesh, parts, model)
    return _mean_of_parts(_whole(task, graphdef, mesh, model), mesh, parts)


def _whole(task: Task, graphdef: nnx.GraphDef[Any], mesh: Mesh, model: Model) -> Gradients:
    def loss_of(
        params: Any, teacher: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, Any]]:
        with placement.over(mesh, task.sharding_rules):
            module = nnx.merge(graphdef, placement.gathered(model(params)))
            return _bound(task, graphdef, teacher).loss(module, batch, key, mesh)

    def gradients_of(params: Any, teacher: Any, batch: Batch, key: jax.Array) -> Any:
        (loss, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(
            params, teacher, batch, key
        )
        return loss, metrics, grads

    return gradients_of


def _bound(task: Any, graphdef: nnx.GraphDef[Any], teacher: Any) -> Any:
    """The task with the module of its teacher's parameters; within ``placement.over``."""
    return with_teacher(task, lambda: nnx.merge(graphdef, placement.gathered(teacher)))


def _two_passes(
    task: SplitTask, graphdef: nnx.GraphDef[Any], mesh: Mesh, parts: int, model: Model
) -> Gradients:
    """The gradient caching of arXiv 2101.06983: exact for losses that compare examples.

    The first pass keeps every part's vectors and no activations; the loss of all of them gives the
    gradient of each vector; the second pass makes a part's activations again and carries the
    gradient of its vectors back to the parameters.
    """

    def per_example(params: Any, teacher: Any, part: Any, key: jax.Array) -> tuple[Any, Any]:
        number, rows = part
        with placement.over(mesh, task.sharding_rules):
            module = nnx.merge(graphdef, placement.gathered(model(params)))
            bound = _bound(task, graphdef, teacher)
            return bound.per_example(module, rows, jax.random.fold_in(key, number))

    def over_batch(
        params: Any, real_Pn: Any, sums: Any, whole_Pn: Any, teacher: Any
    ) -> tuple[jax.Array, dict[str, Any]]:
        vectors_N = jax.tree.map(lambda x: _join(x, mesh), _united(real_Pn, whole_Pn))
        bound = _bound(task, graphdef, teacher)
        return bound.over_batch(nnx.merge(graphdef, model(params)), vectors_N, sums, mesh)

    def gradients_of(params: Any, teacher: Any, batch: Batch, key: jax.Array) -> Any:
        rows_Pn = jnp.arange(parts), jax.tree.map(lambda x: _split(x, parts, mesh), dict(batch))

        def first(sums: Any, part: Any) -> tuple[Any, Any]:
            vectors_n, more = per_example(params, teacher, part, key)
            return jax.tree.map(jnp.add, sums, more), vectors_n

        one_part = jax.tree.map(lambda x: x[0], rows_Pn)
        shapes = jax.eval_shape(per_example, params, teacher, one_part, key)[1]
        sums, vectors_Pn = jax.lax.scan(first, _zeros(shapes), rows_Pn)
        real_Pn, whole_Pn = _parted(vectors_Pn)
        (loss, metrics), (direct, vector_gradients_Pn, sum_gradients) = jax.value_and_grad(
            over_batch, argnums=(0, 1, 2), has_aux=True
        )(params, real_Pn, sums, whole_Pn, teacher)

        def second(grads: Any, inputs: Any) -> tuple[Any, None]:
            part, vector_gradients_n = inputs

            def vectors(params: Any) -> tuple[Any, Any]:
                vectors_n, more = per_example(params, teacher, part, key)
                return _parted(vectors_n)[0], more

            _, back = jax.vjp(vectors, params)
            return jax.tree.map(jnp.add, grads, back((vector_gradients_n, sum_gradients))[0]), None

        grads, _ = jax.lax.scan(second, direct, (rows_Pn, vector_gradients_Pn))
        return loss, metrics, grads

    return gradients_of


def _parted(vectors: Any) -> tuple[Any, Any]:
    """The real numbers among vectors, and the whole ones without a gradient; None elsewhere."""

    def is_real(x: jax.Array) -> bool:
        return jnp.issubdtype(x.dtype, jnp.inexact)

    real = jax.tree.map(lambda x: x if is_real(x) else None, vectors)
    return real, jax.tree.map(lambda x: None if is_real(x) else x, vectors)


def _united(real: Any, whole: Any) -> Any:
    """The inverse of ``_parted``."""
    return jax.tree.map(
        lambda one, other: other if one is None else one, real, whole, is_leaf=lambda x: x is None
    )


def _mean_of_parts(gradients_of: Gradients, mesh: Mesh, parts: int) -> Gradients:
    """Means of loss, metrics and gradients over the parts."""

    def of_parts(params: Any, teacher: Any, batch: Batch, key: jax.Array) -> Any:
        def add(sums: Any, part: Any) -> tuple[Any, None]:
            number, rows = part
            more = gradients_of(params, teacher, rows, jax.random.fold_in(key, number))
            return jax.tree.map(jnp.add, sums, more), None

        rows_Pn = jax.tree.map(lambda x: _split(x, parts, mesh), dict(batch))
        first = jax.tree.map(lambda x: x[0], rows_Pn)
        zeros = _zeros(jax.eval_shape(gradients_of, params, teacher, first, key))
        sums, _ = jax.lax.scan(add, zeros, (jnp.arange(parts), rows_Pn))
        return jax.tree.map(lambda x: x / parts, sums)

    return of_parts


def _split(x_N: jax.Array, parts: int, mesh: Mesh) -> jax.Array:
    """(N, ...) to (P, n, ...): every P-th row, so that each device's rows stay where they are."""
    x_nP = x_N.reshape(x_N.shape[0] // parts, parts, *x_N.shape[1:])
    spec = PartitionSpec(None, BATCH_AXES)
    return jax.lax.with_sharding_constraint(x_nP.swapaxes(0, 1), NamedSharding(mesh, spec))


def _join(x_Pn: jax.Array, mesh: Mesh) -> jax.Array:
    """The inverse of ``_split``."""
    x_N = x_Pn.swapaxes(0, 1).reshape(-1, *x_Pn.shape[2:])
    return jax.lax.with_sharding_constraint(x_N, NamedSharding(mesh, PartitionSpec(BATCH_AXES)))


def _zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
