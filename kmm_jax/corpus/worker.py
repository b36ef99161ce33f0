"""A process that does tasks, one at a time: a line of JSON for each comes in, one goes out.

It ends when its driver closes the line or dies; after the task in hand, on Linux at once, so that
nothing of a killed build writes into the next.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib.util
import json
import os
import signal
import sys
import traceback
from typing import Any

from kmm_jax.errors import UserError

# What tasks import only where they use it: without it every picture would look broken.
_NEEDED = ("simplejpeg", "cv2", "ahocorasick")

ENVIRONMENT = {
    # Several of these processes may share an accelerator; none may take all of its memory.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # There is one of them for each processor; more threads would stand in each other's way.
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Variables of such a process, where the user has not set them."""

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>: the signal we get when our parent dies


def main() -> int:
    """Answer the tasks on standard input; what they print goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver gets it too, and ends us
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    alone()
    with contextlib.suppress(BrokenPipeError):  # the driver is gone
        for line in sys.stdin:
            answers.write(answer(line) + "\n")
            answers.flush()
    return 0


def missing() -> list[str]:
    """The modules that tasks need and that are not installed here."""
    return [module for module in _NEEDED if importlib.util.find_spec(module) is None]


def alone() -> None:
    """Let this process take one processor, as there is one like it for each of them."""
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)


def answer(told: str) -> str:
    """A task's answer as JSON; an exception too, so that it ends that task alone.

    Args:
        told: JSON of its number, its function as ``module:name``, and what that is called with.
    """
    number, function, task = json.loads(told)
    try:
        found = {"result": call(function, task)}
    except UserError as error:
        found = {"error": str(error)}
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        seen = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        named = task if isinstance(task, dict) else {}
        what = named.get("file") or named.get("write") or f"task {json.dumps(task)[:200]}"
        found = {"error": f"{what}: {seen}"}
    return json.dumps({"task": number, **found})


def call(function: str, task: dict[str, Any]) -> Any:
    """What the function answers to the task, as JSON has it; dataclasses become objects."""
    module, _, name = function.partition(":")
    found = getattr(importlib.import_module(module), name)(task)
    return json.loads(json.dumps(found, default=dataclasses.asdict))


if __name__ == "__main__":
    raise SystemExit(main())
