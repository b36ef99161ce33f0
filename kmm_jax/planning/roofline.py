"""How long a step must take at the least, and what bounds it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from kmm_jax.planning.collectives import Collective
from kmm_jax.planning.cost import Cost, Operation
from kmm_jax.planning.memory import Memory
from kmm_jax.training.chips import Chip


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one step on one device, by rooflines: what hardware cannot go below.

    Attributes:
        device: its own work, every kernel at the peak of what bounds it.
        of_memory: the part of ``device`` that kernels bounded by memory traffic take.
        network: sending, by axes.
    """

    device: float
    of_memory: float
    network: Mapping[str, float]

    @property
    def overlapped(self) -> float:
        """If the network works while the device does."""
        return max(self.device, sum(self.network.values()))

    @property
    def serial(self) -> float:
        """If the device waits for the network every time."""
        return self.device + sum(self.network.values())

    @property
    def bound_by(self) -> str:
        """What would have to be faster."""
        sending = sum(self.network.values())
        if sending > self.device:
            slowest = max(self.network, key=lambda axes: self.network[axes])
            return f"the network along {slowest}"
        return "memory traffic" if self.of_memory > self.device / 2 else "matrix products"


def step_time(
    computation: Cost,
    memory: Memory,
    collectives: Iterable[Collective],
    mesh: Mapping[str, int],
    chip: Chip,
) -> StepTime:
    """The rooflines of a step: kernels, the optimizer's pass over the state, collectives."""
    state = memory.parameters + memory.optimizer + memory.average
    update = Operation(flops=0.0, traffic=2 * state + memory.gradients, times=1)
    whole = dataclasses.replace(computation, operations=(*computation.operations, update))
    network: dict[str, float] = {}
    for collective in collectives:
        if collective.axes != "-":
            seconds = collective.sent / bandwidth(collective.axes, mesh, chip)
            network[collective.axes] = network.get(collective.axes, 0.0) + seconds
    roof = {"flops": chip.flops, "bandwidth": chip.memory_bandwidth}
    return StepTime(
        device=whole.seconds(**roof), of_memory=whole.seconds_of_memory(**roof), network=network
    )


def bandwidth(axes: str, mesh: Mapping[str, int], chip: Chip) -> float:
    """Bytes a second a device can send in a collective along these axes.

    Devices are numbered with ``tensor`` fastest and ``data`` slowest, islands after each other
    (``training.device_order``). A group inside an island has its links; one that leaves it shares
    the network cards of as many members as it has in an island, as hierarchical rings do.
    """
    if math.prod(mesh.values()) <= chip.island:
        return chip.link_bandwidth
    stride, together, leaves = 1, 1, False
    for axis, size in list(mesh.items())[::-1]:
        if axis in axes.split("+"):
            # Neighbours along the axis that stand in one island, wherever the group begins.
            near = min(size, max(math.gcd(chip.island, stride * size) // stride, 1))
            leaves |= near < size
            together *= near
        stride *= size
    if not leaves:
        return chip.link_bandwidth
    return min(chip.link_bandwidth, chip.network_bandwidth * together)


def mfu_ceiling(
    forward_flops: float, examples: int, devices: int, chip: Chip, seconds: float
) -> float:
    """The model FLOPs utilisation of such a step: three forward passes' operations."""
    if math.isclose(seconds, 0.0):
        return 0.0
    return 3 * forward_flops * examples / (devices * chip.flops * seconds)
