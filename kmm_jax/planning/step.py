"""The real training step, traced and compiled for devices that are not there."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache
from jax.extend import core
from jax.sharding import AbstractMesh, AxisType, Mesh

from kmm_jax.data.config import batch_shapes
from kmm_jax.errors import ConfigError
from kmm_jax.models.attention import SCOPE
from kmm_jax.planning.collectives import Collective, collectives
from kmm_jax.planning.cost import Cost, Operation, bodies, cost
from kmm_jax.training import setup as setups
from kmm_jax.training import sharding
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.parameter_names import overlaid
from kmm_jax.training.setup import Setup
from kmm_jax.training.sharding import AXES, AnyMesh
from kmm_jax.training.task import SplitTask, with_teacher
from kmm_jax.training.update import make_update

# So many examples that their activations, and not gradients, make the peak.
_MANY = 1024

# Enough that no duration comes to nothing, where none of them matters.
_AN_EPOCH = 10**9

# What only the host's code needs; the partitioned program is the same.
_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """What XLA says of a step it compiled for CPU devices.

    Attributes:
        collectives: of the partitioned program.
        temporary: bytes of its temporary buffers on a device. A CPU keeps attention scores and
            computes bfloat16 in float32: more than an accelerator needs.
        arguments: bytes of state and batch on a device.
    """

    collectives: tuple[Collective, ...]
    temporary: int
    arguments: int


def compile_step(experiment: Experiment, setup: Setup, mesh: Mesh) -> Compiled:
    """Lower and compile the step; no parameter is allocated.

    Args:
        mesh: over as many devices as are planned for, those of ``fake_devices``.
    """
    update = make_update(
        experiment.task,
        setup.graphdef,
        setup.optimizer,
        setup.learning_rate,
        mesh,
        setup.shardings,
        accumulate=experiment.accumulate,
        average=setup.average,
        trained=setup.trained,
        seed=experiment.seed,
    )
    over = sharding.batch_sharding(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=over)
        for name, (shape, dtype) in batch_shapes(
            experiment.data, experiment.global_batch_size
        ).items()
    }
    lowered = update.trace(setup.abstract, batch).lower()
    program, compiled = partitioned_program(lowered)
    memory = compiled.memory_analysis()
    return Compiled(
        collectives=tuple(collectives(program, dict(mesh.shape))) if mesh.size > 1 else (),
        temporary=memory.temp_size_in_bytes,
        arguments=memory.argument_size_in_bytes,
    )


def partitioned_program(lowered: Any) -> tuple[str, Any]:
    """XLA's program for one of the devices, right after it was split, and the compiled whole.

    The program is empty where there was nothing to split.
    """
    with tempfile.TemporaryDirectory() as folder, _without_cache():
        compiled = lowered.compile(
            compiler_options={
                **_QUICKLY,
                "xla_dump_to": folder,
                "xla_dump_hlo_pass_re": "spmd-partitioning",
                "xla_dump_hlo_as_text": True,
            }
        )
        files = sorted(Path(folder).glob("*after_spmd-partitioning*.txt"))
        return "".join(file.read_text() for file in files[-1:]), compiled


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
    """What comes from JAX's compile cache was partitioned in another process and tells nothing."""
    used = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", used)
        compilation_cache.reset_cache()


def fake_devices(count: int) -> None:
    """Let JAX begin with that many CPU devices; nothing else may have begun it before.

    Raises:
        ConfigError: JAX has begun with fewer.
    """
    flag = f"--xla_force_host_platform_device_count={count}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    jax.config.update("jax_platforms", "cpu")
    if len(jax.devices()) < count:
        raise ConfigError(
            f"JAX has begun with {len(jax.devices())} devices and {count} are planned for; plan in "
            "a process of its own (kmm plan)"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traced:
    """What one device computes in a step, counted before any compiler.

    Attributes:
        per_example: bytes of activations an example needs at the peak, forward and backward,
            whatever the mesh.
        over_batch: bytes at the peak of the loss that binds the batch together; 0 without one.
        computation: forward and backward of this device's examples.
    """

    per_example: float
    over_batch: float
    computation: Cost


def trace_step(experiment: Experiment, setup: Setup, *, flash_attention: bool) -> Traced:
    """Trace the forward and backward pass of one device's examples.

    The trace knows no ``tensor`` axis: operations and traffic are divided by it (its layers split
    evenly), activations are not (what is kept between layers is whole on every device).

    Args:
        flash_attention: attention is one kernel that never writes its scores.
    """
    mesh = setup.mesh
    shares = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = experiment.global_batch_size // shares // experiment.accumulate
    kernel = SCOPE if flash_attention else None
    step = cost(_jaxpr(experiment, setup, rows, jax.grad), kernel=kernel)
    ran = step.operations
    if experiment.accumulate > 1 and isinstance(experiment.task, SplitTask):
        # The first of the two passes goes forward only.
        ran += cost(_jaxpr(experiment, setup, rows, _itself), kernel=kernel).operations
    operations = tuple(
        Operation(
            flops=op.flops / mesh.shape["tensor"],
            traffic=op.traffic / mesh.shape["tensor"],
            times=op.times * experiment.accumulate,
        )
        for op in ran
    )
    return Traced(
        per_example=per_example_memory(experiment, flash_attention=flash_attention),
        over_batch=loss_memory(experiment, setup),
        computation=Cost(peak=step.peak, operations=operations),
    )


def prepared(
    experiment: Experiment, mesh: AnyMesh, *, examples_per_epoch: int = _AN_EPOCH
) -> Setup:
    """What the experiment comes to, without what only running it needs.

    Neither evaluation data nor a tracker's account need be there to plan.
    """
    bare = dataclasses.replace(experiment, evaluators=(), trackers=())
    return setups.prepare(bare, mesh, examples_per_epoch=examples_per_epoch, vocabulary=None)


def per_example_memory(experiment: Experiment, *, flash_attention: bool) -> float:
    """Bytes of activations an example needs at the peak of forward and backward pass."""
    setup = prepared(experiment, _one_device())
    once, twice = (
        cost(
            _jaxpr(experiment, setup, count, jax.grad), kernel=SCOPE if flash_attention else None
        ).peak
        for count in (_MANY, 2 * _MANY)
    )
    # Twice the examples less once: what does not grow with them is counted elsewhere.
    return (twice - once) / _MANY


def loss_memory(experiment: Experiment, setup: Setup) -> float:
    """Bytes at the peak of the loss that binds the batch together, on one device; 0 without one."""
    if not isinstance(experiment.task, SplitTask):
        return 0.0
    traced = _loss_gradient(experiment, setup)
    inner = [traced] if setup.mesh.size == 1 else bodies(traced, "shard_map")
    return max((cost(body).peak for body in inner), default=0.0)


def _itself(function: Any) -> Any:
    return function


def _jaxpr(
    experiment: Experiment, setup: Setup, rows: int, transform: Callable[[Any], Any]
) -> core.Jaxpr:
    """Of so many examples' outputs, summed, or by ``jax.grad`` of their backward pass as well."""

    def total(part: Any, params: Any, teacher: Any, batch: Any) -> jax.Array:
        module = setup.module(overlaid(params, part))
        key = jax.random.key(0)
        bound = _taught(experiment, setup, teacher)
        if isinstance(bound, SplitTask):
            outputs = bound.per_example(module, batch, key)
        else:
            outputs = bound.loss(module, batch, key, _one_device())[0]
        leaves = jax.tree.leaves(outputs)
        return functools.reduce(jnp.add, [jnp.sum(leaf, dtype=jnp.float32) for leaf in leaves])

    shapes = _shapes(setup)
    inputs = setup.trained.part(shapes), shapes, shapes, _structs(experiment, rows)
    return jax.make_jaxpr(transform(total))(*inputs).jaxpr


def _loss_gradient(experiment: Experiment, setup: Setup) -> core.Jaxpr:
    params = _shapes(setup)
    vectors, sums = jax.eval_shape(
        lambda params, batch: _taught(experiment, setup, params).per_example(
            setup.module(params), batch, jax.random.key(0)
        ),
        params,
        _structs(experiment, experiment.global_batch_size),
    )

    def loss(vectors: Any, params: Any, teacher: Any, sums: Any) -> jax.Array:
        bound = _taught(experiment, setup, teacher)
        return bound.over_batch(setup.module(params), vectors, sums, setup.mesh)[0]

    return jax.make_jaxpr(jax.grad(loss))(vectors, params, params, sums).jaxpr


def _taught(experiment: Experiment, setup: Setup, teacher: Any) -> Any:
    return with_teacher(experiment.task, lambda: setup.module(teacher))


def _shapes(setup: Setup) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), setup.abstract.params
    )


def _structs(experiment: Experiment, rows: int) -> Any:
    batch = batch_shapes(experiment.data, rows)
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in batch.items()}


def _one_device() -> Any:
    return AbstractMesh((1,) * len(AXES), AXES, axis_types=(AxisType.Auto,) * len(AXES))
