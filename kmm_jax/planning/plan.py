"""What a run needs on so many chips: memory, operations, network, time."""

from __future__ import annotations

import dataclasses
import math

import jax

from kmm_jax.errors import ConfigError
from kmm_jax.planning.collectives import sent_by
from kmm_jax.planning.memory import USABLE, Memory, memory
from kmm_jax.planning.roofline import StepTime, mfu_ceiling, step_time
from kmm_jax.planning.step import Compiled, compile_step, prepared, trace_step
from kmm_jax.training import setup as setups
from kmm_jax.training import sharding
from kmm_jax.training.chips import Chip
from kmm_jax.training.experiment import Experiment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A planned run.

    Attributes:
        mesh: size by axis.
        steps: of the whole run.
        parameters: number of them.
        executed_flops: operations of one device in a step, with recomputation and whole squares of
            causal attention; ``model_flops`` without, as MFU counts.
        compiled: what XLA says.
        activations_per_example: bytes, see ``step.Traced``.
    """

    name: str
    chip: Chip
    mesh: dict[str, int]
    global_batch_size: int
    accumulate: int
    steps: int
    parameters: int
    memory: Memory
    model_flops: float
    executed_flops: float
    compiled: Compiled
    activations_per_example: float
    time: StepTime
    mfu: float

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(self.mesh.values())

    @property
    def sent(self) -> dict[tuple[str, str], float]:
        """Bytes a device sends in one step, by kind and axes."""
        return sent_by(self.compiled.collectives)

    @property
    def fits(self) -> bool:
        """Whether a chip's memory holds it."""
        return self.memory.total <= USABLE * self.chip.memory

    @property
    def seconds(self) -> float:
        """The whole run, if the network works while the devices do."""
        return self.steps * self.time.overlapped

    @property
    def efficiency(self) -> tuple[float, float]:
        """The share of a step that is the device's own work: without overlap, and with it."""
        return self.time.device / self.time.serial, self.time.device / self.time.overlapped


def plan(
    experiment: Experiment,
    chip: Chip,
    chips: int,
    *,
    examples_per_epoch: int = 1,
    compiled: Compiled | None = None,
) -> Plan:
    """Plan a run on the experiment's mesh over ``chips`` devices (see ``step.fake_devices``).

    Args:
        compiled: that of the same step planned for another chip; compiled here by default.

    Raises:
        ConfigError: the mesh does not fit the chips, or the batch not the mesh.
    """
    mesh = sharding.make_mesh(experiment.mesh, jax.devices()[:chips])
    if mesh.size != chips:
        raise ConfigError(f"the mesh takes {mesh.size} chips of the {chips} planned for")
    setups.check_batch(experiment, mesh)
    setup = prepared(experiment, mesh, examples_per_epoch=examples_per_epoch)
    traced = trace_step(experiment, setup, flash_attention=chip.flash_attention)
    needed = memory(experiment, setup, per_example=traced.per_example, over_batch=traced.over_batch)
    compiled = compiled or compile_step(experiment, setup, mesh)
    sizes = dict(mesh.shape)
    time = step_time(traced.computation, needed, compiled.collectives, sizes, chip)
    forward = experiment.task.flops_per_example()
    return Plan(
        name=experiment.name,
        chip=chip,
        mesh=sizes,
        global_batch_size=experiment.global_batch_size,
        accumulate=experiment.accumulate,
        steps=setup.total_steps,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(setup.abstract.params)),
        memory=needed,
        model_flops=3 * forward * experiment.global_batch_size / chips,
        executed_flops=traced.computation.flops,
        compiled=compiled,
        activations_per_example=traced.per_example,
        time=time,
        mfu=mfu_ceiling(forward, experiment.global_batch_size, chips, chip, time.overlapped),
    )
