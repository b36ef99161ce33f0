"""A process that does one thing to one engine, asked in lines of JSON, and answers likewise.

    python -m tools.bench.neighbours.worker ENGINE VECTORS [--one]

Each engine is alone in its process, so that memory and threads are its own; with ``--one`` it has
one core and one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

Answer = dict[str, Any]


class Worker:
    """The other end: starts the process, asks, and ends it with the block."""

    def __init__(self, engine: str, vectors: Path, *, one: bool) -> None:
        words = [sys.executable, "-m", "tools.bench.neighbours.worker", engine, str(vectors)]
        threads = {"OMP_NUM_THREADS": "1"} if one else {}
        self._engine = engine
        self._process = subprocess.Popen(
            [*words, *(["--one"] if one else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads},
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, what: str, **arguments: Any) -> Answer:
        """What the process says.

        Raises:
            RuntimeError: it ended before it answered.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._engine}: {what} {arguments} ended with no answer")
        found: Answer = json.loads(line)
        return found


class _Engine:
    def __init__(self, engine: str, vectors: Path, threads: int) -> None:
        from tools.bench.neighbours.vectors import opened

        self._engine, self._threads = engine, threads
        self._vectors = opened(vectors)
        self._searching: Callable[..., Any] | None = None

    def answer(self, what: str, arguments: dict[str, Any]) -> Answer:
        found: Answer = getattr(self, f"_{what}")(**arguments)
        return found

    def _tune(self, folder: str, wanted: float, builds: int | None) -> Answer:
        from tools.bench.neighbours import engines

        started = time.perf_counter()
        found = engines.tune(self._vectors, Path(folder), wanted, builds)
        return {**found, "seconds": time.perf_counter() - started}

    def _build(self, folder: str, settings: dict[str, Any]) -> Answer:
        from tools.bench.neighbours import engines

        wall, processor = time.perf_counter(), time.process_time()
        engines.build(self._engine, self._vectors, Path(folder), settings)
        return {
            "seconds": time.perf_counter() - wall,
            "processor_seconds": time.process_time() - processor,
        }

    def _target(self, folder: str, wanted: float) -> Answer:
        from tools.bench.neighbours import engines

        return engines.recall_target(Path(folder), self._vectors, wanted)

    def _load(self, folder: str) -> Answer:
        """What the process holds more of afterwards: libraries are imported before."""
        from tools.bench.neighbours import engines

        if reason := engines.missing(self._engine):
            raise SystemExit(reason)
        import kmm_jax.retrieval.index  # noqa: F401

        before = _resident()
        started = time.perf_counter()
        self._searching = engines.load(self._engine, Path(folder), self._threads)
        return {"seconds": time.perf_counter() - started, "before": before}

    def _memory(self, settings: dict[str, Any], before: int) -> Answer:
        """Once a hundred queries were searched, which touch what is mapped."""
        search = self._search(settings)
        for query in self._vectors.choosing[:100]:
            search(query)
        return {"bytes": _resident() - before}

    def _sweep(self, settings: dict[str, Any], timed: int, rounds: int) -> Answer:
        """Recall on the queries that choose, and processor seconds of a query asked by itself."""
        search = self._search(settings)
        queries = self._vectors.choosing[::2]
        mean, error = _found(search(queries), self._vectors.choosing_true[::2])
        return {
            "recall": mean,
            "error": error,
            "seconds": min(_alone(search, queries[:timed]) for _ in range(rounds)),
        }

    def _recall(self, settings: dict[str, Any]) -> Answer:
        """On the queries that chose nothing."""
        found = self._search(settings)(self._vectors.asking)
        mean, error = _found(found, self._vectors.asking_true)
        return {"recall": mean, "error": error}

    def _time(self, settings: dict[str, Any], batch: bool, queries: int) -> Answer:
        """Seconds of the clock for a query, asked by itself or with all others at once."""
        search = self._search(settings)
        asked = self._vectors.asking[:queries]
        search(asked[:64])
        started = time.perf_counter()
        if batch:
            search(asked)
        else:
            for query in asked:
                search(query)
        return {"seconds": (time.perf_counter() - started) / len(asked)}

    def _search(self, settings: dict[str, Any]) -> Callable[[Any], list[list[str]]]:
        assert self._searching is not None
        search: Callable[[Any], list[list[str]]] = self._searching(settings)
        return search


def _alone(search: Callable[[Any], Any], queries: Any) -> float:
    started = time.thread_time()
    for query in queries:
        search(query)
    return (time.thread_time() - started) / len(queries)


def _found(found: list[list[str]], true_QK: Any) -> tuple[float, float]:
    import numpy as np

    pairs = zip(found, true_QK.tolist(), strict=True)
    shares = [len({int(each, 16) for each in ids} & set(true)) / len(true) for ids, true in pairs]
    return float(np.mean(shares)), float(np.std(shares) / np.sqrt(len(shares)))


def _resident() -> int:
    """Bytes of this process that are in memory, mapped files among them."""
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.neighbours.worker")
    parser.add_argument("engine")
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--one", action="store_true")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if arguments.one:
        # Before any library makes threads, which take it over.
        os.sched_setaffinity(0, cores[-1:])
    # Libraries that print do so beside the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engine = _Engine(arguments.engine, arguments.vectors, 1 if arguments.one else len(cores))
    for line in sys.stdin:
        question = json.loads(line)
        answers.write(json.dumps(engine.answer(question.pop("what"), question)) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
