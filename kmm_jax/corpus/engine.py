"""Where the work is done: tasks of one file each, in processes of this machine or of a cluster.

A task reads its input, writes its output under a name that appears whole or not at all, and answers
with counts. So whatever is killed, on whichever machine, what is finished stays finished, and the
engine moves names and counts only: no picture crosses a shuffle.

On this machine the processes are kept from stage to stage. (Threads share Python's lock and were
slower; Daft's own runner for one machine starts its processes anew for every stage, a second each
time. On a cluster, where a stage takes hours, it is Daft that hands out the tasks:
``kmm_jax.corpus.cluster``.)
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from kmm_jax.corpus import worker
from kmm_jax.errors import DataError

Task = tuple[str, dict[str, Any]]
"""A function as ``module:name``, imported where the task runs, and what it is called with: JSON."""

# A task whose process died (killed, out of memory) is given to another one, until so many have.
TRIES = 3

# Tasks that use an accelerator or compile: never in the driver, whose settings may be others.
_SCORING = "kmm_jax.corpus.scores:"


class Engine(Protocol):
    """Runs tasks."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """The number of each task and what its function answers, as they end.

        Raises:
            DataError: a task failed; names it. What others finished stays.
        """


def run(function: str, tasks: Sequence[dict[str, Any]], *, at_a_time: int) -> Iterator[Any]:
    """What ``function`` answers to each task, as they end, on this machine; see ``Engine.run``."""
    with Local(at_a_time) as local:
        for _, result in local.run([(function, task) for task in tasks]):
            yield result


class Local:
    """Processes of this machine, started when they are needed and kept until the block ends."""

    def __init__(self, at_a_time: int) -> None:
        self._at_a_time = at_a_time
        self._idle: list[_Worker] = []
        self._started = 0
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in [*self._idle, *(key.data for key in self._selector.get_map().values())]:
            process.end()
        self._selector.close()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """As ``Engine.run``; one task alone is done here, unless a process is there already."""
        if len(tasks) == 1 and not self._idle and not tasks[0][0].startswith(_SCORING):
            told = json.loads(worker.answer(json.dumps([0, *tasks[0]])))
            raise_first({0: told["error"]} if "error" in told else {})
            yield 0, told["result"]
            return
        waiting = collections.deque(range(len(tasks)))
        tries: collections.Counter[int] = collections.Counter()
        failed: dict[int, str] = {}
        while waiting or self._selector.get_map():
            while waiting and len(self._selector.get_map()) < self._at_a_time:
                process = self._idle.pop() if self._idle else self._start()
                number = waiting.popleft()
                process.give(number, json.dumps([number, *tasks[number]]))
                self._selector.register(process.answers, selectors.EVENT_READ, process)
            for key, _ in self._selector.select():
                process = key.data
                self._selector.unregister(process.answers)
                told = process.answer()
                if told is not None:
                    self._idle.append(process)
                    if "error" in told:
                        failed[told["task"]] = told["error"]
                    else:
                        yield told["task"], told["result"]
                    continue
                number, how = process.task, process.end()
                tries[number] += 1
                if tries[number] < TRIES:
                    waiting.append(number)
                else:
                    failed[number] = died(tasks[number], how)
        raise_first(failed)

    def _start(self) -> _Worker:
        self._started += 1
        return _Worker(environment(self._started - 1))


def environment(number: int) -> dict[str, str]:
    """The variables of worker ``number``; of several NVIDIA GPUs it sees one, in turn."""
    # Modules are found there as here, whatever this process did to its path.
    path = os.pathsep.join(folder for folder in sys.path if folder)
    found = {**worker.ENVIRONMENT, **os.environ, "PYTHONPATH": path}
    if len(devices := _gpus()) > 1:
        found["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return found


def _gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    nodes = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return sorted((name for name in nodes if name.isdigit()), key=int)


class _Worker:
    """A process with the task it has."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kmm_jax.corpus.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
            text=True,
            encoding="ascii",
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._tasks, self.answers = self._process.stdin, self._process.stdout
        self.task = -1

    def give(self, number: int, task: str) -> None:
        self.task = number
        with contextlib.suppress(BrokenPipeError):  # it has died, which its answer will tell
            self._tasks.write(task + "\n")
            self._tasks.flush()

    def answer(self) -> dict[str, Any] | None:
        """What it answered; None if it died."""
        line = self.answers.readline()
        return json.loads(line) if line.endswith("\n") else None

    def end(self) -> str:
        """End it, if it has not ended; says how it did."""
        with contextlib.suppress(BrokenPipeError):
            self._tasks.close()
        self.answers.close()
        self._process.kill()  # nothing half done is ever seen
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def died(task: Task, how: str) -> str:
    """What is said of a task that no process survived."""
    what = task[1].get("file") or task[1].get("write") or json.dumps(task[1])[:200]
    return (
        f"{what}: {TRIES} processes died at work on it ({how}). Out of memory, or killed from "
        "outside? Fewer at a time (tasks=1) need less; what else was finished is kept"
    )


def raise_first(failed: dict[int, str]) -> None:
    """Raise DataError for the first of the tasks that failed, if any did."""
    if failed:
        more = f" (and {len(failed) - 1} more tasks)" if len(failed) > 1 else ""
        raise DataError(f"{failed[min(failed)]}{more}")
