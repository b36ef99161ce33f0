"""How the loop runs evaluators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kmm_jax.models import placement
from kmm_jax.training.sharding import batch_sharding
from kmm_jax.training.task import Task
from kmm_jax.training.trained import EVERYTHING, Trained

Functions = Mapping[str, Callable[[Any, Mapping[str, Any]], Any]]


class Evaluator(Protocol):
    """Scores of a model, yielded as (name, value); in practice a frozen dataclass."""

    @property
    def name(self) -> str:
        """Unique in an experiment."""
        ...

    @property
    def every(self) -> str:
        """Duration between two evaluations; the end of the run has one in any case."""
        ...

    def run(self, functions: Functions, params: Any) -> Iterator[tuple[str, float]]:
        """The scores; each function is ``(params, batch) -> arrays``, jitted."""
        ...


@runtime_checkable
class CheckedEvaluator(Protocol):
    """An evaluator that can tell before training that it will not be able to run."""

    def check(self) -> None:
        """Raise ConfigError or DataError; called before anything is compiled."""
        ...


def evaluation_functions(
    task: Task,
    graphdef: nnx.GraphDef[Any],
    mesh: Mesh,
    poll: Callable[[], None],
    trained: Trained = EVERYTHING,
) -> dict[str, Callable[[Any, Mapping[str, Any]], Any]]:
    """The task's functions as evaluators call them: ``(params, batch) -> arrays``.

    Batches are NumPy arrays, the same in every process; rows are split over the mesh where they
    divide. Results are whole in every process. ``poll`` is called before each batch and may raise.
    """
    replicated = NamedSharding(mesh, PartitionSpec())
    rows_over = batch_sharding(mesh)
    devices = mesh.shape["data"] * mesh.shape["fsdp"]

    def put(rows: Any) -> jax.Array:
        rows = np.asarray(rows)
        divides = rows.ndim > 0 and rows.shape[0] % devices == 0
        return jax.make_array_from_callback(
            rows.shape, rows_over if divides else replicated, lambda index: rows[index]
        )

    def callable_(function: Callable[..., Any]) -> Callable[[Any, Mapping[str, Any]], Any]:
        def pure(params: Any, batch: Any) -> Any:
            with placement.over(mesh, task.sharding_rules):
                return function(
                    nnx.merge(graphdef, placement.gathered(trained.model(params))), batch
                )

        jitted = jax.jit(pure, out_shardings=replicated)

        def call(params: Any, batch: Mapping[str, Any]) -> Any:
            poll()
            return jitted(params, {name: put(rows) for name, rows in batch.items()})

        return call

    return {name: callable_(function) for name, function in task.functions().items()}
