"""All that a record says of speed: rates, kinds of time, time left, processes compared."""

from __future__ import annotations

from collections.abc import Callable

import jax

from kmm_jax.training import hardware
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.progress import Meter, hours
from kmm_jax.training.setup import Setup
from kmm_jax.training.stragglers import Stragglers
from kmm_jax.training.time_spent import TimeSpent


class Speed:
    """Reads this process's meter and its account of time, and compares the processes.

    Args:
        tell: takes a sentence for people.
    """

    def __init__(
        self,
        experiment: Experiment,
        setup: Setup,
        meter: Meter,
        time: TimeSpent,
        *,
        tell: Callable[[str], None],
    ) -> None:
        self._task, self._devices, self._total = experiment.task, setup.mesh.size, setup.total_steps
        self._meter, self._time = meter, time
        self._stragglers = Stragglers(meter.step_time, tell)
        # The operations of a step in which parameters are frozen are not three forward passes'.
        whole = setup.trained.names is None
        self._peak = hardware.peak_flops(jax.devices()[0]) if whole else None

    def left(self, step: int) -> str:
        """``, about 0:03:21 left``, or nothing where it is not known."""
        left = self._time.left(step, self._total)
        return f", about {hours(left)} left" if left else ""

    def send(self) -> None:
        """Tell the other processes this one's time; called before a step that is recorded.

        The devices then have it done when they have done the step, and nobody waits for it. A
        collective call where there are several processes.
        """
        self._stragglers.send()

    def read(self, step: int) -> tuple[dict[str, float], dict[str, list[float]]]:
        """The record's ``speed/`` and ``time/`` values, and those of each process if several.

        A collective call where there are several processes.
        """
        with self._meter.devices():
            compared = self._stragglers.read()
        values = self._meter.read() | {"speed/goodput": self._time.goodput} | self._time.shares()
        left = self._time.left(step, self._total)
        if left is not None:
            values["speed/eta_seconds"] = left
        if self._peak is not None:
            values["speed/mfu"] = hardware.mfu(
                values["speed/examples_per_second"],
                self._task.flops_per_example(),
                self._devices,
                self._peak,
            )
        if compared is None:
            return values, {}
        return values | compared.values, compared.by_process
