"""SIGTERM and SIGINT as a flag that training asks for, so that it can save and end in order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Literal

import jax
import numpy as np

SignalName = Literal["SIGTERM", "SIGINT"]

# Agreeing waits for all processes, so several do it only this often.
_AGREE_EVERY_STEPS = 10


class Interrupted(BaseException):
    """Leaves an evaluation early; not an Exception, so that no evaluator swallows it."""


class Interrupts:
    """The signal received so far, if any."""

    def __init__(self) -> None:
        self.received: SignalName | None = None

    def agreed(self, step: int) -> bool:
        """Whether to stop after ``step``; the same answer in every process.

        With several processes it is a collective call: all must make it for the same steps.
        """
        if jax.process_count() == 1:
            return self.received is not None
        return step % _AGREE_EVERY_STEPS == 0 and self.any_process()

    def any_process(self) -> bool:
        """Whether any process received a signal; a collective call."""
        if jax.process_count() == 1:
            return self.received is not None
        from jax.experimental import multihost_utils

        flags = multihost_utils.process_allgather(np.asarray(self.received is not None))
        return bool(flags.any())

    def leave_evaluation(self) -> None:
        """Raise ``Interrupted`` if a signal came; one process of several goes on to the next value.

        Evaluations of several processes hold collectives, which one cannot leave alone.
        """
        if jax.process_count() == 1 and self.received is not None:
            raise Interrupted


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Note SIGTERM and SIGINT instead of dying of them; a second SIGINT ends at once.

    Outside the main thread signals cannot be caught and the flag stays down.
    """
    flag = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        flag.received = "SIGTERM" if number == signal.SIGTERM else "SIGINT"
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
