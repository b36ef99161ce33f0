"""How fast training goes: numbers for the log, a line for people."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_REWRITES = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepTime:
    """Where one process's time went, in seconds a step.

    Attributes:
        step: all of it; about the same in every process, because each step waits for all.
        host: what was not spent waiting for the devices: for data, and in Python.
        data: the part of ``host`` in which no batch was ready.
    """

    step: float
    host: float
    data: float


class Meter:
    """Examples per second and what this process waited for.

    It is read in two ways that do not touch each other, each since it was read that way before.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Begin anew; called after compiling, saving and evaluating, which are no training."""
        self._restart_rates()
        self._restart_steps()

    def _restart_rates(self) -> None:
        self._start = self._clock()
        self._examples, self._waited = 0, 0.0

    def _restart_steps(self) -> None:
        self._steps_start = self._clock()
        self._steps, self._steps_data, self._steps_devices = 0, 0.0, 0.0

    def waited(self, seconds: float) -> None:
        """The loop stood still for that long until the next batch was ready."""
        self._waited += seconds
        self._steps += 1
        self._steps_data += seconds

    @contextlib.contextmanager
    def devices(self) -> Iterator[None]:
        """What happens inside waits for the devices, and so perhaps for other processes."""
        began = self._clock()
        try:
            yield
        finally:
            self._steps_devices += self._clock() - began

    def done(self, examples: int) -> None:
        """The devices have finished a step of that many examples."""
        self._examples += examples

    def step_time(self) -> StepTime:
        """The mean over the batches there were; begins anew."""
        seconds, steps = self._clock() - self._steps_start, max(self._steps, 1)
        time = StepTime(
            step=seconds / steps,
            host=max(seconds - self._steps_devices, 0.0) / steps,
            data=self._steps_data / steps,
        )
        self._restart_steps()
        return time

    def read(self) -> dict[str, float]:
        """``speed/examples_per_second`` and ``speed/data_wait`` (0 to 1); begins anew."""
        seconds = max(self._clock() - self._start, 1e-9)
        rates = {
            "speed/examples_per_second": self._examples / seconds,
            "speed/data_wait": min(self._waited / seconds, 1.0),
        }
        self._restart_rates()
        return rates


class Progress:
    """The progress line on stderr: rewritten on a terminal, else a new line every few seconds."""

    def __init__(
        self,
        name: str,
        total_steps: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._total = total_steps
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = self._stream.isatty()
        self._clock = clock
        self._shown_at = float("-inf")
        self._open_line = False

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Show the step, ``loss`` and ``speed/...``, if it is time for it; always at the end."""
        now = self._clock()
        pause = _SECONDS_BETWEEN_REWRITES if self._terminal else _SECONDS_BETWEEN_LINES
        if now - self._shown_at < pause and step < self._total:
            return
        self._shown_at = now
        line = self.line(step, values)
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{line}")
            self._open_line = True
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def line(self, step: int, values: Mapping[str, float]) -> str:
        """``shop 120/1000 | loss 2.3456 | 812 examples/s | MFU 41% | data 3% | 0:03:21 left``."""
        parts = [f"{self._name} {step}/{self._total}"]
        if "loss" in values:
            parts.append(f"loss {values['loss']:.4f}")
        speed = values.get("speed/examples_per_second", 0.0)
        if speed:
            parts.append(f"{speed:,.0f} examples/s" if speed >= 10 else f"{speed:.1f} examples/s")
        if "speed/mfu" in values:
            parts.append(f"MFU {values['speed/mfu']:.1%}")
        if "speed/data_wait" in values:
            parts.append(f"data {values['speed/data_wait']:.0%}")
        if "speed/eta_seconds" in values:
            parts.append(f"{hours(values['speed/eta_seconds'])} left")
        return " | ".join(parts)

    def note(self, text: str) -> None:
        """A line of its own that stays."""
        if self._open_line:
            self._stream.write("\n")
            self._open_line = False
        self._stream.write(f"{self._name}: {text}\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line that is being rewritten."""
        if self._open_line:
            self._stream.write("\n")
            self._stream.flush()
            self._open_line = False


def hours(seconds: float) -> str:
    """``H:MM:SS``."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
