"""All that changes in training, as pure arrays."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax
from flax import nnx

from kmm_jax.errors import ConfigError
from kmm_jax.training.lora import with_factors
from kmm_jax.training.task import Task
from kmm_jax.training.trained import EVERYTHING, Trained


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """What a step takes and returns, and what a checkpoint holds.

    Attributes:
        step: () int32, the number of updates made.
        params: nested dicts of float32 arrays, as ``nnx.merge`` takes them, and with LoRA the
            factors besides (``training.lora``). Running statistics of
            batch norms are among them: no gradient reaches them, and the task gives their new
            values (``training.task.STATISTICS``).
        opt_state: the optax state, of the trained parameters alone (``training.trained``).
        ema: exponential moving average of ``params``, or None. A teacher's running statistics are
            its own; frozen parameters are theirs.
    """

    step: Any
    params: Any
    opt_state: Any
    ema: Any


def graph_of(task: Task) -> nnx.GraphDef[Any]:
    """The task's module without its arrays; nothing is computed.

    Raises:
        ConfigError: the module holds variables that are neither parameters nor running statistics.
    """
    module = nnx.eval_shape(lambda: task.init(jax.random.key(0)))
    rest: Any
    graphdef, _, rest = nnx.split(module, (nnx.Param, nnx.BatchStat), ...)  # type: ignore[misc]
    if leaves := jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(rest)):
        path = jax.tree_util.keystr(leaves[0][0], simple=True, separator="/")
        raise ConfigError(
            f"{type(module).__name__} holds the variable {path}, which is no nnx.Param and no "
            "nnx.BatchStat; the training state carries no others (pass dropout keys to the call)"
        )
    return graphdef


def create(
    task: Task,
    optimizer: optax.GradientTransformation,
    seed: int,
    *,
    averaged: bool,
    trained: Trained = EVERYTHING,
    params: Any = None,
) -> TrainState:
    """The state before the first step.

    Args:
        averaged: the state carries an average of the parameters.
        params: all of the module's, in place of drawn ones.
    """
    if params is None:
        module = task.init(jax.random.fold_in(jax.random.key(seed), 0))
        params = nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))
    if trained.lora is not None:
        params = with_factors(params, trained.lora, jax.random.fold_in(jax.random.key(seed), 2))
    return TrainState(
        step=jax.numpy.zeros((), jax.numpy.int32),
        params=params,
        opt_state=optimizer.init(trained.part(params)),
        ema=jax.tree.map(jax.numpy.copy, params) if averaged else None,
    )
