"""What a run measured: JSON lines, one record each, and the same for TensorBoard and trackers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kmm_jax.files import atomic_write
from kmm_jax.training.trackers import TensorBoard, Tracker

FILE_NAME = "metrics.jsonl"
# Names that tell of the processes that trained; all others do not depend on where and how fast.
OF_PROCESSES = ("speed/", "time/", "data/")


def read_records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The records of a ``metrics.jsonl`` in order; a last line cut off by a crash is passed over.

    A record has ``step`` (updates made), the values, and ``evaluator`` if one made them. Numbers
    that were not finite are None; a list has a number of each process. Names that begin with one of
    ``OF_PROCESSES`` tell of the processes that trained; all others are the same again after an
    interrupted run is continued.
    """
    path = Path(path)
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                return
            yield record


class MetricsLog:
    """``metrics.jsonl`` and ``tensorboard/`` of a run, continued after ``step``.

    Records of later steps, left by a run that was killed, are dropped.

    Args:
        trackers: those that are told the same besides; they are closed with it.

    Attributes:
        latest: the last value of each name.
    """

    def __init__(self, run_dir: Path, *, step: int, trackers: Sequence[Tracker] = ()) -> None:
        path = run_dir / FILE_NAME
        kept = [record for record in read_records(path) if record["step"] <= step]
        with atomic_write(path, "w") as file:
            file.writelines(_line(record) for record in kept)
        self.latest: dict[str, float] = {}
        self._evaluated: set[tuple[int, str]] = set()
        for record in kept:
            self._remember(record)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._tensorboard = TensorBoard(run_dir, step=step)
        self._trackers: tuple[Tracker, ...] = (self._tensorboard, *trackers)

    def write(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        evaluator: str | None = None,
        by_process: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> None:
        """Append one record; it reaches the operating system before this returns.

        Args:
            by_process: numbers of each process by name, for ``metrics.jsonl`` alone.

        Raises:
            OSError: the disk is full.
        """
        names = {} if evaluator is None else {"evaluator": evaluator}
        numbers = {k: _finite(v) for k, v in values.items()}
        record = {"step": step, **names, **numbers, **by_process}
        self._file.write(_line(record))
        self._remember(record)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for tracker in self._trackers:
            tracker.write(step, finite)

    def evaluated(self, step: int, evaluator: str) -> bool:
        """Whether the evaluator's record of this step is there."""
        return (step, evaluator) in self._evaluated

    def sync(self) -> None:
        """Bring all records to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._tensorboard.flush()

    def close(self, *, failed: bool = False) -> None:
        """Write the rest and close everything; trackers are told if training failed."""
        self.sync()
        self._file.close()
        for tracker in self._trackers:
            tracker.close(failed=failed)

    def _remember(self, record: Mapping[str, Any]) -> None:
        if "evaluator" in record:
            self._evaluated.add((record["step"], record["evaluator"]))
        numbers = {k: v for k, v in record.items() if isinstance(v, float | int) and k != "step"}
        self.latest.update(numbers)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
