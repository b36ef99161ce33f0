"""Notices that training stands still, shows where, and ends the process.

A lost network file system or a collective that one process never enters blocks for ever without an
error. The launcher can only start again what has ended.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# Not 2 (the user's mistake): launchers start it again. EX_SOFTWARE of sysexits.h.
EXIT_CODE = 70
_LOOKS = 4  # times within the allowed seconds


class Watchdog:
    """Watches one wait at a time, from a thread of its own.

    Between ``begin`` and ``end`` the training thread waits for something outside Python. If that
    takes longer than ``seconds``, the stack of every thread is written to ``report`` and to stderr
    and ``give_up`` is called, which by default ends the process at once with code 70: a thread that
    is stuck in a collective cannot be asked to stop.

    Args:
        seconds: what a wait may take; None watches nothing.
        report: the file for the stacks; its folder exists.
    """

    def __init__(
        self,
        seconds: float | None,
        report: Path,
        *,
        give_up: Callable[[], None] | None = None,
    ) -> None:
        self._seconds = seconds
        self._report = report
        self._give_up = give_up or _end
        self._wait: tuple[float, str] | None = None
        self._closed = threading.Event()
        if seconds is not None:
            threading.Thread(target=self._watch, name="kmm-watchdog", daemon=True).start()

    def begin(self, what: str) -> None:
        """From now on ``what`` is waited for."""
        self._wait = (time.monotonic(), what)

    def end(self) -> None:
        """It came."""
        self._wait = None

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()

    def _watch(self) -> None:
        assert self._seconds is not None
        told = None
        while not self._closed.wait(self._seconds / _LOOKS):
            wait = self._wait
            if wait is None or wait is told or time.monotonic() - wait[0] < self._seconds:
                continue
            told = wait
            self._tell(wait[1])
            self._give_up()

    def _tell(self, what: str) -> None:
        print(
            f"training stands still: nothing for {self._seconds:.0f} s while waiting for {what}; "
            f"the stack of every thread follows and is in {self._report}. This process ends with "
            f"code {EXIT_CODE}; the same command continues from the newest checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        try:
            with self._report.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}: waiting for {what}\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError as error:  # the disk may be what hangs
            print(f"{self._report}: {error}", file=sys.stderr)
        faulthandler.dump_traceback(2, all_threads=True)  # whatever sys.stderr is by now


def _end() -> NoReturn:
    os._exit(EXIT_CODE)
