"""Where the work is done: tasks of one file each, on this machine or on a Ray cluster, by Daft.

A task reads its input, writes its output under a name that appears whole or not at all, and answers
with counts. So whatever is killed, on whichever machine, what is finished stays finished, and the
engine moves names and counts only: no picture crosses a shuffle. (Engines were compared on this
work; Daft is as fast as a plain pool of processes, starts in a third of a second and scales out by
one line.)
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from kmm_jax.errors import ConfigError, DataError


def run(function: str, tasks: Sequence[dict[str, Any]], *, at_a_time: int) -> Iterator[Any]:
    """What ``function`` answers to each task, as they end.

    Args:
        function: ``module:name`` of a function from a task to something JSON can hold; imported
            where the task runs.
        tasks: what it is called with, each something JSON can hold.
        at_a_time: how many run at once on one machine; a cluster decides by itself.

    Raises:
        DataError: a task failed; names it. What others finished stays.
        ConfigError: the engine is not installed.
    """
    if len(tasks) <= 1:  # an engine would take longer to start
        for task in tasks:
            yield json.loads(json.dumps(_named(function)(task), default=dataclasses.asdict))
        return
    try:
        os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
        import daft
    except ImportError as error:
        raise ConfigError(
            "building a corpus needs its extra: pip install 'kmm-jax[corpus]'"
        ) from error
    frame = daft.from_pydict({"task": [json.dumps(task) for task in tasks]}).into_batches(1)
    worker = _worker(daft, min(at_a_time, len(tasks)))(function)
    failed: list[str] = []
    for row in frame.select(worker(frame["task"]).alias("answer")).iter_rows():
        answer = json.loads(row["answer"])
        if "error" in answer:
            failed.append(answer["error"])
        else:
            yield answer["result"]
    if failed:
        more = f" (and {len(failed) - 1} more tasks)" if len(failed) > 1 else ""
        raise DataError(f"{failed[0]}{more}")


def _worker(daft: Any, at_a_time: int) -> Any:
    @daft.cls(max_concurrency=at_a_time)
    class Worker:
        def __init__(self, function: str) -> None:
            self.function = _named(function)

        @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=1)
        def __call__(self, tasks: Any) -> list[str]:
            return [answer(self.function, task) for task in tasks.to_pylist()]

    return Worker


def _named(function: str) -> Any:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def answer(function: Any, task: str) -> str:
    """The function's answer as JSON; an exception too, since one would end the whole query."""
    try:
        result = function(json.loads(task))
        return json.dumps({"result": result}, default=dataclasses.asdict)
    except DataError as error:
        return json.dumps({"error": str(error)})
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        seen = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        return json.dumps({"error": f"task {task[:200]}: {seen}"})
