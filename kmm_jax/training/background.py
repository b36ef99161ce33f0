"""Trackers in threads of their own, so that no network holds up or ends a run."""

from __future__ import annotations

import contextlib
import functools
import json
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from kmm_jax.files import write_json
from kmm_jax.training import dump
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.trackers import TrackedRun, Tracker

FILE_NAME = "tracking.json"
# A day of records at one every ten seconds; a record is some hundred bytes.
_RECORDS_HELD = 10_000
_PAUSE_SECONDS = 60.0
_CLOSE_SECONDS = 15.0
# Once training has ended: a failure of a moment should not cost the rest.
_LAST_TRIES, _LAST_PAUSE_SECONDS = 3, 1.0

T = TypeVar("T")


def open_trackers(experiment: Experiment, run_dir: Path) -> list[Tracker]:
    """The experiment's trackers, each in the background; returns at once."""
    if not experiment.trackers:
        return []
    run = TrackedRun(
        id=tracked_id(run_dir),
        name=experiment.name,
        run_dir=run_dir,
        config=dump.to_json(experiment),
    )
    return [
        Background(type(config).__name__, functools.partial(config.open, run))
        for config in experiment.trackers
    ]


def tracked_id(run_dir: Path) -> str:
    """The id under which trackers know the run, kept in ``tracking.json`` once it is made."""
    file = run_dir / FILE_NAME
    try:
        return str(json.loads(file.read_text("utf-8"))["id"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        made = uuid.uuid4().hex[:16]
        write_json(file, {"id": made})
        return made


class Background:
    """A tracker whose calls return at once and never raise.

    Records wait in order while it cannot take them: the first failure is said on stderr, and the
    record is tried again after a pause. If too many wait, those that come are left out.

    Args:
        name: for messages.
        open_: makes the tracker; called in the thread, again until it succeeds.
        pause: seconds between two attempts.
        patience: seconds that ``close`` waits for what is left.
    """

    def __init__(
        self,
        name: str,
        open_: Callable[[], Tracker],
        *,
        pause: float = _PAUSE_SECONDS,
        patience: float = _CLOSE_SECONDS,
        held: int = _RECORDS_HELD,
    ) -> None:
        self._name, self._open = name, open_
        self._pause, self._patience, self._held = pause, patience, held
        self._records: queue.SimpleQueue[tuple[int, Mapping[str, float]] | None]
        self._records = queue.SimpleQueue()
        self._closing = threading.Event()
        self._failed = self._told = False
        # A daemon: an interpreter that ends does not wait for the network.
        self._thread = threading.Thread(target=self._work, name=f"kmm-{name}", daemon=True)
        self._thread.start()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Hand the values over."""
        if self._records.qsize() < self._held:
            self._records.put((step, dict(values)))
        else:
            self._tell("is too slow, and records are left out there")

    def close(self, *, failed: bool = False) -> None:
        """Wait, for a bounded time, until the rest has been taken."""
        self._failed = failed
        self._closing.set()
        self._records.put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._tell(f"did not take the last records within {self._patience:.0f} s")

    def _work(self) -> None:
        try:
            tracker = self._insist(self._open)
        except _GivenUp:
            return
        with contextlib.suppress(_GivenUp):
            while (record := self._records.get()) is not None:
                self._insist(functools.partial(tracker.write, *record))
        try:  # also after records that it did not take: else the run seems to go on there
            tracker.close(failed=self._failed)
        except Exception as error:
            self._tell(f"could not be closed ({_shown(error)})")

    def _insist(self, call: Callable[[], T]) -> T:
        left = _LAST_TRIES
        while True:
            try:
                return call()
            except Exception as error:
                self._tell(f"fails ({_shown(error)}) and is tried again every {self._pause:.0f} s")
            if self._closing.wait(self._pause):
                if not left:
                    raise _GivenUp
                left -= 1
                time.sleep(min(self._pause, _LAST_PAUSE_SECONDS))

    def _tell(self, what: str) -> None:
        if not self._told:
            self._told = True
            print(
                f"tracker {self._name} {what}; training goes on, and metrics.jsonl has everything",
                file=sys.stderr,
                flush=True,
            )


class _GivenUp(BaseException):
    """Training ended while the tracker failed; not an Exception, so that no retry swallows it."""


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
