"""What an experiment comes down to on the devices there are, before anything is computed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.errors import ConfigError
from kmm_jax.training import duration, optimizer, parameter_names, sharding, teacher
from kmm_jax.training.duration import Scale
from kmm_jax.training.evaluators import CheckedEvaluator
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.lora import LORA, factor_specs, matrix_of
from kmm_jax.training.sharding import AnyMesh
from kmm_jax.training.state import TrainState, create, graph_of
from kmm_jax.training.task import CheckedTask, Task, TaughtTask
from kmm_jax.training.trained import Trained, trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """All that is fixed for a run.

    Attributes:
        scale: turns durations into steps; ``total_steps`` is the run's length.
        average: decay of the averaged parameters, where there are any.
        trained: which parameters ``optimizer`` is for; the others are frozen.
        abstract: the state as shapes, with their shardings.
        shardings: those shardings alone.
    """

    scale: Scale
    total_steps: int
    mesh: AnyMesh
    graphdef: nnx.GraphDef[Any]
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    average: optax.Schedule | None
    trained: Trained
    abstract: TrainState
    shardings: TrainState

    def module(self, params: Any) -> Any:
        """The model of a run's parameters."""
        return nnx.merge(self.graphdef, self.trained.model(params))


def prepare_mesh(experiment: Experiment) -> Mesh:
    """The mesh, and whether the batch divides over it.

    Raises:
        ConfigError: the mesh does not fit the devices, or the batch not the mesh.
    """
    mesh = sharding.make_mesh(experiment.mesh)
    check_batch(experiment, mesh)
    return mesh


def check_batch(experiment: Experiment, mesh: AnyMesh) -> None:
    """Whether the batch divides over the mesh and into its parts.

    Raises:
        ConfigError: it does not; names the next size that would.
    """
    size, parts = experiment.global_batch_size, experiment.accumulate
    shares = mesh.shape["data"] * mesh.shape["fsdp"]
    if size % (shares * parts):
        raise ConfigError(
            f"global_batch_size {size} does not divide over data={mesh.shape['data']} x "
            f"fsdp={mesh.shape['fsdp']} devices x accumulate={parts}; choose a multiple of "
            f"{shares * parts}, such as {math.ceil(size / (shares * parts)) * shares * parts}"
        )


def prepare(
    experiment: Experiment,
    mesh: AnyMesh,
    *,
    examples_per_epoch: int,
    vocabulary: int | None,
) -> Setup:
    """Everything but data and arrays.

    Raises:
        ConfigError: task, data, tokenizer, optimizer, rules and mesh do not fit together.
        DataError: an evaluator's data are not there, or not what it needs.
    """
    task = experiment.task
    if isinstance(task, TaughtTask) != (experiment.teacher is not None):
        raise ConfigError(
            f"{type(task).__name__} learns from a teacher: set teacher (kmm_jax.training.teacher)"
            if experiment.teacher is None
            else f"{type(task).__name__} learns from no teacher: set teacher=none"
        )
    if isinstance(task, CheckedTask):
        task.check(data=experiment.data, vocabulary=vocabulary)
    for evaluator in experiment.evaluators:
        if isinstance(evaluator, CheckedEvaluator):
            evaluator.check()
    for tracker in experiment.trackers:
        tracker.check()
    scale = Scale(
        global_batch_size=experiment.global_batch_size, examples_per_epoch=examples_per_epoch
    )
    total = duration.resolve(experiment.duration, scale)
    if total < 1:
        raise ConfigError(f"duration {experiment.duration!r} comes to no step at all")
    scale = dataclasses.replace(scale, total_steps=total)
    try:
        graphdef = graph_of(task)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"task.model cannot be built: {error}") from error
    part = trained(_parameters(task), freeze=experiment.freeze, lora=experiment.lora)
    params = jax.eval_shape(lambda: _created(experiment, optax.set_to_zero(), part)).params
    transformation = optimizer.build(experiment.optimizer, scale, params)
    abstract = jax.eval_shape(lambda: _created(experiment, transformation, part))
    return Setup(
        scale=scale,
        total_steps=total,
        graphdef=graphdef,
        optimizer=transformation,
        learning_rate=optimizer.learning_rate(experiment.optimizer, scale),
        average=teacher.decay(experiment.ema, experiment.teacher, total),
        trained=part,
        **_placed(experiment, abstract, transformation, part, mesh),
    )


def over_another_mesh(experiment: Experiment, setup: Setup, mesh: AnyMesh) -> Setup:
    """The same run over another mesh.

    Raises:
        ConfigError: a parameter does not divide over it.
    """
    placed = _placed(experiment, setup.abstract, setup.optimizer, setup.trained, mesh)
    return dataclasses.replace(setup, **placed)


def _placed(
    experiment: Experiment,
    abstract: TrainState,
    transformation: optax.GradientTransformation,
    part: Trained,
    mesh: AnyMesh,
) -> dict[str, Any]:
    """The fields of ``Setup`` that follow from the mesh."""
    factors = abstract.params.get(LORA)
    specs = sharding.param_specs(
        {name: leaf for name, leaf in abstract.params.items() if name != LORA},
        experiment.task.sharding_rules,
        mesh,
        fsdp_min_size=experiment.mesh.fsdp_min_size,
    )
    if factors is not None:
        specs[LORA] = factor_specs(specs, factors)
    shardings = sharding.state_shardings(abstract, specs, transformation, mesh, part)
    placed = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        abstract,
        shardings,
    )
    return {"mesh": mesh, "abstract": placed, "shardings": shardings}


def _parameters(task: Task) -> Any:
    """The shapes of a task's parameters, nested; its running statistics are among them."""
    module = nnx.eval_shape(lambda: task.init(jax.random.key(0)))
    return nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))


def _created(
    experiment: Experiment, transformation: optax.GradientTransformation, part: Trained
) -> TrainState:
    return create(
        experiment.task,
        transformation,
        experiment.seed,
        averaged=experiment.averaged,
        trained=part,
    )


def describe(experiment: Experiment, setup: Setup) -> str:
    """Mesh, parameters and the state's memory on each device, for people."""
    mesh = " x ".join(f"{axis}={size}" for axis, size in setup.mesh.shape.items())

    def megabytes(tree: Any) -> float:
        return (
            sum(
                math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
                for leaf in jax.tree.leaves(tree)
            )
            / 1e6
        )

    state = setup.abstract
    parts = {
        "parameters": state.params,
        "optimizer": state.opt_state,
        "average": state.ema,
        "gradients": setup.trained.part(state.params),
    }
    memory = " + ".join(f"{megabytes(t):,.1f} {name}" for name, t in parts.items() if t is not None)
    total = sum(megabytes(tree) for tree in parts.values() if tree is not None)
    return (
        f"mesh: {mesh}, {setup.mesh.size} devices\n"
        f"steps: {setup.total_steps} of {experiment.global_batch_size} examples\n"
        f"{describe_parameters(experiment, setup)}\n"
        f"memory a device: {total:,.1f} MB = {memory} MB, without activations\n"
    )


def describe_parameters(experiment: Experiment, setup: Setup) -> str:
    """How many parameters there are and are trained, in a line; running statistics are none."""
    module = nnx.eval_shape(lambda: experiment.task.init(jax.random.key(0)))
    counted = parameter_names.named(nnx.to_pure_dict(nnx.as_pure(nnx.state(module, nnx.Param))))

    def count(params: Any) -> int:
        found = parameter_names.named(params)
        return sum(
            math.prod(leaf.shape) for name, leaf in found.items() if matrix_of(name) in counted
        )

    whole, part = count(setup.abstract.params), count(setup.trained.part(setup.abstract.params))
    if setup.trained.names is None:
        return f"parameters: {whole:,}"
    return (
        f"parameters: {whole:,}, of which {part:,} are trained ({part / whole:.2%}) and "
        f"{whole - part:,} frozen"
    )


_DRAWN_AT_ONCE = 256 << 20
"""Bytes of a state up to which its arrays are drawn one by one, on a device, and then placed."""


def fresh_state(experiment: Experiment, setup: Setup, given: Any = None) -> TrainState:
    """The state before the first step, every array where it belongs and none shared.

    Args:
        given: nested parameters to begin from in place of drawn ones; all of them, or some.
    """

    own = {name: part for name, part in setup.abstract.params.items() if name != LORA}
    names = parameter_names.named(given).keys()
    whole = names == parameter_names.named(own).keys()

    def start(given: Any) -> TrainState:
        state = create(
            experiment.task,
            setup.optimizer,
            experiment.seed,
            averaged=experiment.averaged,
            trained=setup.trained,
            params=given if whole else None,
        )
        if whole:
            return state
        ema = None if state.ema is None else parameter_names.overlaid(state.ema, given)
        params = parameter_names.overlaid(state.params, given)
        return dataclasses.replace(state, params=params, ema=ema)

    # One program of all draws takes XLA far longer to compile than small arrays take to draw.
    if not whole and _nbytes(setup.abstract) <= _DRAWN_AT_ONCE:
        return jax.tree.map(_placed_array, start(given), setup.shardings)
    if given is not None:
        given = jax.device_put(given, parameter_names.kept(setup.shardings.params, names))
    # On a CPU most of the time is LLVM polishing code that runs once.
    cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if cpu else None
    return jax.jit(start, out_shardings=setup.shardings, compiler_options=options)(given)


def _nbytes(tree: Any) -> int:
    """Of all arrays together, however they are spread."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _placed_array(value: Any, where: Any) -> jax.Array:
    """A copy of what every process computed alike, over the devices of all."""
    if where.is_fully_addressable:
        return jax.device_put(value, where, may_alias=False)
    host = np.asarray(value)
    return jax.make_array_from_callback(host.shape, where, lambda index: host[index].copy())
