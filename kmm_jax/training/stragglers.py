"""Which process holds the others up.

Training is synchronous: a step takes the same time in every process, because in its collectives
all wait for the slowest. What differs is where each process spends that time. The slow one is busy
on its host, reading data or running Python, while the others wait for the devices; so processes are
compared by their time on the host, ``StepTime.host``. A slow accelerator does not show here: its
process waits for the devices as all do.

Letters: P processes, K numbers of each.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kmm_jax.training.progress import StepTime

# One that is this much over the median and hardly ever waits for the devices is waited for.
_RATIO, _BUSY = 1.5, 0.8
_RECORDS_IN_A_ROW = 5
# Seconds a step; below it a ratio says nothing.
_NOTHING = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The processes beside each other at one record.

    Attributes:
        values: ``speed/slowest_process`` and ``speed/slowest_ratio`` (its time on the host over the
            median process's), and the same by the wait for data, ``speed/slowest_data_...``.
        by_process: ``speed/host_seconds`` and ``speed/data_seconds`` of each process, a step.
    """

    values: dict[str, float]
    by_process: dict[str, list[float]]


class Stragglers:
    """Compares the processes at each record; a single process has nothing to compare.

    Args:
        measure: this process's time since it was called before.
        tell: takes a sentence on a process that is slow for several records, once for each process.
    """

    def __init__(self, measure: Callable[[], StepTime], tell: Callable[[str], None]) -> None:
        self._measure, self._tell = measure, tell
        self._sent: deque[jax.Array] = deque()
        self._suspect, self._records = -1, 0
        self._told: set[int] = set()

    def send(self) -> None:
        """Send this process's time to all, behind the work the devices have.

        With several processes it is a collective call: all make it before the same steps.
        """
        if jax.process_count() > 1:
            numbers_K = np.asarray(dataclasses.astuple(self._measure()), np.float32)
            self._sent.append(_gather(numbers_K))

    def read(self) -> Comparison | None:
        """What all have sent, the oldest first; None for a single process."""
        if not self._sent:
            return None
        times_PK = np.asarray(self._sent.popleft().addressable_data(0), np.float64).round(6)
        times = [StepTime(step=s, host=h, data=d) for s, h, d in times_PK.tolist()]
        self._judge(times)
        return compare(times)

    def _judge(self, times: Sequence[StepTime]) -> None:
        host = [time.host for time in times]
        slowest = _slowest(host)
        slow = times[slowest]
        suspicious = _ratio(host) >= _RATIO and slow.host >= _BUSY * slow.step
        if not suspicious or slowest != self._suspect:
            self._records = 0
        self._records += suspicious
        self._suspect = slowest
        if self._records == _RECORDS_IN_A_ROW and slowest not in self._told:
            self._told.add(slowest)
            self._tell(
                f"process {slowest} holds the others up: of a step's {slow.step:.3g} s its host is "
                f"busy {slow.host:.3g} s, {slow.data:.3g} s of them without data; the median is "
                f"{_median(host):.3g} s"
            )


def compare(times: Sequence[StepTime]) -> Comparison:
    """The slowest of the processes, by their time on the host and by their wait for data."""
    host, data = [time.host for time in times], [time.data for time in times]
    return Comparison(
        values={
            "speed/slowest_process": _slowest(host),
            "speed/slowest_ratio": _ratio(host),
            "speed/slowest_data_process": _slowest(data),
            "speed/slowest_data_ratio": _ratio(data),
        },
        by_process={"speed/host_seconds": host, "speed/data_seconds": data},
    )


def _slowest(seconds_P: Sequence[float]) -> int:
    return int(np.argmax(seconds_P))


def _ratio(seconds_P: Sequence[float]) -> float:
    return max(max(seconds_P), _NOTHING) / max(_median(seconds_P), _NOTHING)


def _median(seconds_P: Sequence[float]) -> float:
    """The lower one of two, so that of two processes the slow one is not half the measure."""
    return sorted(seconds_P)[(len(seconds_P) - 1) // 2]


def _gather(numbers_K: np.ndarray) -> jax.Array:
    """(P, K), whole in every process; dispatched, not waited for."""
    over_processes, everywhere = _gathering()
    gathered: jax.Array = everywhere(
        jax.make_array_from_process_local_data(over_processes, numbers_K[None])
    )
    return gathered


@functools.cache
def _gathering() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    mesh = Mesh(np.array(devices).reshape(jax.process_count(), -1), ("process", "device"))
    replicated = NamedSharding(mesh, PartitionSpec())
    return NamedSharding(mesh, PartitionSpec("process")), jax.jit(
        lambda rows_PK: rows_PK, out_shardings=replicated
    )
