"""Where a run's time goes, over all its restarts, how much of it trained, and how much is left."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kmm_jax.files import write_json

FILE_NAME = "time.json"
KINDS = ("train", "data", "compile", "evaluate", "checkpoint")
# What a run before the restart counts at most in the time a step takes: the machines may be others.
_STEPS_REMEMBERED = 100


class TimeSpent:
    """Seconds by kind since a run first began, kept in ``time.json`` with each checkpoint.

    The kinds are ``data`` (no batch was ready), ``compile``, ``evaluate``, ``checkpoint`` (what a
    save holds up) and ``train``, the rest of the loop. What a killed run did after its last
    checkpoint is done again and counts for nothing: ``goodput`` is the time that trained steps that
    are kept, over all time since the run first began, the time it did not run included.

    Args:
        run_dir: the run's folder.
        keep: whether this process writes the file.
        step: steps done before.
    """

    def __init__(
        self, run_dir: Path, *, keep: bool, step: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = run_dir / FILE_NAME
        self._keep = keep
        self._clock = clock
        self._elsewhere = 0.0
        before = _read(self._file)
        self._began = before.get("began", clock())
        self.starts = int(before.get("starts", 0)) + 1
        self._seconds: dict[str, float] = dict(before.get("seconds", {}))
        self._shown = dict(self._seconds)
        self._step, self._stepping = step, _stepping(self._seconds)
        self._first: tuple[int, float] | None = None
        self._mark = clock()

    @contextlib.contextmanager
    def spend(self, kind: str) -> Iterator[None]:
        """Count what happens inside as ``kind`` and not as training."""
        began = self._clock()
        try:
            yield
        finally:
            self.add(kind, self._clock() - began)

    def add(self, kind: str, seconds: float) -> None:
        """Count seconds that have passed just now as ``kind``."""
        self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds
        self._elsewhere += seconds

    def seconds(self) -> dict[str, float]:
        """By kind, up to now."""
        now = self._clock()
        training = max(now - self._mark - self._elsewhere, 0.0)
        self._mark, self._elsewhere = now, 0.0
        self._seconds["train"] = self._seconds.get("train", 0.0) + training
        return dict(self._seconds)

    @property
    def goodput(self) -> float:
        """The share of all time since the run began that trained, 0 to 1."""
        trained = self.seconds()["train"]
        return min(trained / max(self._clock() - self._began, 1e-9), 1.0)

    def shares(self) -> dict[str, float]:
        """``time/KIND`` for each kind, 0 to 1: its part of the time since the call before."""
        seconds = self.seconds()
        since = {kind: seconds.get(kind, 0.0) - self._shown.get(kind, 0.0) for kind in KINDS}
        self._shown = seconds
        whole = max(sum(since.values()), 1e-9)
        return {f"time/{kind}": part / whole for kind, part in since.items()}

    def left(self, step: int, total: int) -> float | None:
        """Seconds from ``step`` to ``total`` if nothing interrupts it; None before any is known.

        A step takes what it took in this process, to which the run before a restart counts as some
        steps more; saving and evaluating add what they added to the run so far. Compiling, and the
        time the run did not run, are not expected again.
        """
        seconds = self.seconds()
        stepping = _stepping(seconds)
        if self._first is None and step > self._step:
            self._first = step, stepping  # the first step has the loop's beginning in it
        steps, spent = 0.0, 0.0
        if self._first is not None:
            steps, spent = step - self._first[0], stepping - self._first[1]
        if self._step > 0 and self._stepping > 0:
            remembered = min(self._step, _STEPS_REMEMBERED)
            steps, spent = steps + remembered, spent + self._stepping / self._step * remembered
        if steps <= 0:
            return None
        besides = seconds.get("evaluate", 0.0) + seconds.get("checkpoint", 0.0)
        return (total - step) * spent / steps * (1 + besides / max(stepping, 1e-9))

    def save(self) -> None:
        """Keep it, as a checkpoint keeps the steps it counts."""
        seconds = self.seconds()
        if self._keep:
            write_json(
                self._file,
                {"began": self._began, "starts": self.starts, "seconds": seconds},
            )

    def line(self) -> str:
        """``train 92 %, data 1 %, compile 4 %; goodput 90 % over 2 starts``."""
        seconds = self.seconds()
        whole = max(sum(seconds.values()), 1e-9)
        parts = [
            f"{kind} {part / whole:.0%}"
            for kind, part in sorted(seconds.items(), key=lambda item: -item[1])
        ]
        starts = "1 start" if self.starts == 1 else f"{self.starts} starts"
        return f"{', '.join(parts)}; goodput {self.goodput:.0%} over {starts}"


def _stepping(seconds: Mapping[str, float]) -> float:
    return seconds.get("train", 0.0) + seconds.get("data", 0.0)


def _read(file: Path) -> dict:
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return {}
