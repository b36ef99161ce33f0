"""One update: the gradients of a batch, the optimizer's step, the moving average."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kmm_jax.training.accumulation import gradients
from kmm_jax.training.parameter_names import overlaid
from kmm_jax.training.sharding import batch_sharding
from kmm_jax.training.state import TrainState
from kmm_jax.training.task import STATISTICS, Statistics, Task
from kmm_jax.training.trained import EVERYTHING, Trained

Batch = Mapping[str, jax.Array]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["names"])
@dataclasses.dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """A step's numbers in one float32 array, so that they come to the host in one transfer."""

    names: tuple[str, ...]
    values: jax.Array

    def fetch(self) -> dict[str, float]:
        """The numbers by name; waits for the step to end."""
        return dict(zip(self.names, np.asarray(self.values).tolist(), strict=True))


def make_update(
    task: Task,
    graphdef: nnx.GraphDef[Any],
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    mesh: Mesh,
    shardings: TrainState,
    *,
    accumulate: int = 1,
    average: optax.Schedule | None = None,
    trained: Trained = EVERYTHING,
    seed: int = 0,
) -> Any:
    """The jitted ``(state, batch) -> (state, metrics)``; the state given is used up (donated).

    The metrics are those of the task, ``loss``, ``gradient_norm`` (of what is trained, before
    clipping) and ``learning_rate``.

    Args:
        average: decay of the averaged parameters after so many updates; None where there are none.
        trained: what the optimizer was made for; the other parameters stay as they are.
    """

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        # Key 0 of the seed made the parameters, and 2 LoRA's factors.
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), state.step)
        gradients_of = gradients(
            task,
            graphdef,
            mesh,
            parts=accumulate,
            model=lambda part: trained.model(overlaid(state.params, part)),
        )
        part = trained.part(state.params)
        loss, metrics, grads = gradients_of(part, trained.model(state.ema), batch, key)
        moved = Statistics(*map(trained.part, metrics.pop(STATISTICS, Statistics(None))))
        changes, opt_state = optimizer.update(grads, state.opt_state, part)
        part = overlaid(optax.apply_updates(part, changes), moved.student)
        averaged = None
        if average is not None:
            kept = average(state.step + 1)
            before = trained.part(state.ema)
            averaged = jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, before, part)
            averaged = overlaid(state.ema, overlaid(averaged, moved.teacher))
        metrics = {
            **metrics,
            "loss": loss,
            "gradient_norm": optax.global_norm(grads),
            "learning_rate": learning_rate(state.step),
        }
        params = overlaid(state.params, part)
        after = TrainState(step=state.step + 1, params=params, opt_state=opt_state, ema=averaged)
        names = tuple(sorted(metrics))
        values = jnp.stack([jnp.asarray(metrics[name], jnp.float32) for name in names])
        return after, StepMetrics(names=names, values=values)

    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.jit(
        update,
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated),
    )


def place(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a global batch, onto its devices."""
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:  # the same in a third of the time
        return jax.device_put(dict(batch), sharding)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()
    }
