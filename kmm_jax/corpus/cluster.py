"""A Ray cluster to build on: every node of it is tried, then Daft hands out the tasks.

Daft's Ray runner starts a process for each processor of the cluster, spread over the nodes, and
gives each a task at a time. A process that dies is started again, up to four times; the cluster
ends them all when the driver dies. Installed modules are imported by name on the nodes, nothing is
uploaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import kmm_jax
from kmm_jax.corpus import worker
from kmm_jax.corpus.engine import TRIES, Task, raise_first
from kmm_jax.errors import ConfigError, DataError, require
from kmm_jax.retrieval.cluster.connection import QUIET, connected

_SCORING = "kmm_jax.corpus.scores:"  # the tasks that use an accelerator
_ANSWER_SECONDS = 120.0
_SHARED = "all nodes must see the same files under the same names (a shared disk)"
_QUIET = {**QUIET, "DAFT_PROGRESS_BAR": "0"}


class Cluster:
    """The engine on a Ray cluster.

    Attributes:
        nodes: how many tasks each node has answered, by its host and Ray's name for it.

    Args:
        address: ``ray://HOST:10001``, ``HOST:6379``, or ``auto``: the cluster that this machine is
            a node of.
        folder: where the corpus is built. Every node is asked to read a file that this machine
            wrote into it, and to write one there itself: a folder that only looks shared is found
            out in seconds, not when the last stage misses a table.
        inputs: files that tasks will read, one or a few of each kind, which the nodes must find;
            URLs are left to the tasks.
        at_a_time: tasks in the whole cluster, at most one for each of its processors.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
        DataError: a node cannot use the folder, the inputs or this library; names node and path.
    """

    def __init__(
        self, address: str, folder: Path, inputs: Sequence[str], *, at_a_time: int | None = None
    ) -> None:
        self._ray, self._daft = _connected(address)
        _try_nodes(self._ray, folder, [name for name in inputs if "://" not in name])
        self._at_a_time = at_a_time
        self.nodes: dict[str, int] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The connection stays: a process has one, and Ray closes it when the process ends."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """As ``Engine.run``."""
        left = {number: json.dumps([number, *task]) for number, task in enumerate(tasks)}
        scoring = any(function.startswith(_SCORING) for function, _ in tasks)
        failed: dict[int, str] = {}
        tries, lost = 0, ""
        while left and tries < TRIES:
            before = len(left)
            try:
                for told in self._answers(list(left.values()), scoring):
                    if left.pop(told["task"], None) is None:
                        continue  # answered twice: its node was taken for dead
                    self.nodes[told["node"]] = self.nodes.get(told["node"], 0) + 1
                    if "error" in told:
                        failed[told["task"]] = told["error"]
                    else:
                        yield told["task"], told["result"]
            except _LostError as error:
                lost = str(error)
                tries = tries + 1 if len(left) == before else 1
        if left:
            one = tasks[min(left)][1]
            raise DataError(
                f"{len(left):,} tasks have no answer after {TRIES} tries ({lost}); among them "
                f"{one.get('file') or one.get('write')}. What is finished was kept"
            )
        raise_first(failed)

    def _answers(self, tasks: Sequence[str], scoring: bool) -> Iterator[dict[str, Any]]:
        # Daft waits two minutes for processes that there are no processors for; and nodes come and
        # go between stages.
        there = self._ray.cluster_resources()
        processors = max(1, int(there.get("CPU", 1)))
        at_a_time = min(self._at_a_time or processors, processors, len(tasks))
        frame = self._daft.from_pydict({"task": list(tasks)}).into_batches(1)
        # Ray hides accelerators from those that ask for none.
        share = min(1.0, int(100 * there.get("GPU", 0) / at_a_time) / 100) if scoring else 0.0
        process = _process(self._daft, at_a_time, share)(str(Path.cwd()))
        rows = frame.select(process(frame["task"]).alias("answer")).iter_rows()
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # a task's own is its answer: this is the engine's
                raise _LostError(" ".join(str(error).split())[:300]) from error
            yield json.loads(row["answer"])


class _LostError(Exception):
    """The engine gave up."""


def _process(daft: Any, at_a_time: int, gpus: float) -> Any:
    @daft.cls(max_concurrency=at_a_time, gpus=gpus)
    class Process:
        def __init__(self, folder: str) -> None:
            with contextlib.suppress(OSError):  # absolute names do without
                os.chdir(folder)
            worker.alone()
            self.node = node()

        @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=1)
        def __call__(self, tasks: Any) -> list[str]:
            told = (json.loads(worker.answer(task)) for task in tasks.to_pylist())
            return [json.dumps({**one, "node": self.node}) for one in told]

    return Process


def node() -> str:
    """The node this process works on."""
    import ray

    return f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:8]}"


def _connected(address: str) -> tuple[Any, Any]:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    daft = require("daft", extra="ray")
    ray = connected(address, {**worker.ENVIRONMENT, **_QUIET})
    daft.set_runner_ray(noop_if_initialized=True)
    return ray, daft


def _try_nodes(ray: Any, folder: Path, inputs: Sequence[str]) -> None:
    """Raise DataError naming the first node that cannot do what tasks do."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder.mkdir(parents=True, exist_ok=True)
    word = uuid.uuid4().hex
    (folder / f".seen-{word}").write_text(word, "utf-8")
    asked = {}
    try:
        for found in ray.nodes():
            if not found["Alive"] or found["Resources"].get("CPU", 0) <= 0:
                continue
            name = f"{found['NodeManagerHostname']} ({found['NodeManagerAddress']})"
            there = NodeAffinitySchedulingStrategy(node_id=found["NodeID"], soft=False)
            task = ray.remote(_try).options(num_cpus=0, scheduling_strategy=there)
            key = f"{word}-{found['NodeID'][:8]}"
            asked[key] = name, task.remote(str(Path.cwd()), str(folder), word, key, list(inputs))
        if not asked:
            raise ConfigError("the Ray cluster has no node with a processor")
        for key, (name, answer) in asked.items():
            try:
                version, problem = ray.get(answer, timeout=_ANSWER_SECONDS)
            except Exception as error:
                said = " ".join(str(error).split())[-300:]
                raise DataError(
                    f"node {name} cannot run tasks: {type(error).__name__}: {said}; the same "
                    "version of kmm-jax[ray] must be installed on it"
                ) from error
            if version != _version():
                raise DataError(f"node {name} has {version}, this machine {_version()}; make alike")
            if problem is None and not (folder / f".seen-{key}").exists():
                problem = f"what it writes into {folder} is not seen here; {_SHARED}"
            if problem is not None:
                raise DataError(f"node {name}: {problem}")
    finally:
        for left in folder.glob(f".seen-{word}*"):
            with contextlib.suppress(OSError):
                left.unlink()


def _version() -> str:
    return f"kmm_jax {kmm_jax.__version__}, Python {platform.python_version()}"


def _try(
    here: str, folder: str, word: str, key: str, inputs: Sequence[str]
) -> tuple[str, str | None]:
    """What a node is asked; answers its versions and what it could not do."""
    with contextlib.suppress(OSError):
        os.chdir(here)
    if absent := worker.missing():
        return _version(), f"{', '.join(absent)} cannot be imported: kmm-jax[ray] is not installed"
    try:
        if Path(folder, f".seen-{word}").read_text("utf-8") != word:
            return _version(), f"it reads something else in {folder}; {_SHARED}"
    except OSError as error:
        return _version(), f"it cannot read in {folder} ({error.strerror}); {_SHARED}"
    try:
        Path(folder, f".seen-{key}").write_text(key, "utf-8")
    except OSError as error:
        return _version(), f"it cannot write in {folder} ({error.strerror}); {_SHARED}"
    for name in inputs:
        if not os.access(name, os.R_OK):
            return _version(), f"it cannot read {name} (working in {Path.cwd()}); {_SHARED}"
    return _version(), None
