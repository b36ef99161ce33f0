"""What a run measured: JSON lines, one record each, and the same for TensorBoard."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kmm_jax.files import atomic_write

FILE_NAME = "metrics.jsonl"


def read_records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The records of a ``metrics.jsonl`` in order; a last line cut off by a crash is passed over.

    A record has ``step`` (updates made), the values, and ``evaluator`` if one made them. Numbers
    that were not finite are None. Names that begin with ``speed/`` or ``data/`` tell of the process
    that wrote them; all others are the same again after an interrupted run is continued.
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

    Attributes:
        latest: the last value of each name.
    """

    def __init__(self, run_dir: Path, *, step: int) -> None:
        from tensorboardX import SummaryWriter

        path = run_dir / FILE_NAME
        kept = [record for record in read_records(path) if record["step"] <= step]
        with atomic_write(path, "w") as file:
            file.writelines(_line(record) for record in kept)
        self.latest: dict[str, float] = {}
        self._evaluated: set[tuple[int, str]] = set()
        for record in kept:
            self._remember(record)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._tensorboard = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1)

    def write(
        self, step: int, values: Mapping[str, float], *, evaluator: str | None = None
    ) -> None:
        """Append one record; it reaches the operating system before this returns."""
        names = {} if evaluator is None else {"evaluator": evaluator}
        record = {"step": step, **names, **{k: _finite(v) for k, v in values.items()}}
        self._file.write(_line(record))
        self._remember(record)
        self._check_tensorboard()
        for name, value in values.items():
            if math.isfinite(value):
                self._tensorboard.add_scalar(name, value, step)

    def _check_tensorboard(self) -> None:
        """Its thread ends silently on a full disk, and the next record would wait for it."""
        files = self._tensorboard.file_writer
        worker = getattr(getattr(files, "event_writer", None), "_worker", None)
        if worker is not None and not worker.is_alive():
            folder = str(self._tensorboard.logdir)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)

    def evaluated(self, step: int, evaluator: str) -> bool:
        """Whether the evaluator's record of this step is there."""
        return (step, evaluator) in self._evaluated

    def sync(self) -> None:
        """Bring all records to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._tensorboard.flush()

    def close(self) -> None:
        """Write the rest and close both."""
        self.sync()
        self._file.close()
        self._tensorboard.close()

    def _remember(self, record: Mapping[str, Any]) -> None:
        if "evaluator" in record:
            self._evaluated.add((record["step"], record["evaluator"]))
        numbers = {k: v for k, v in record.items() if isinstance(v, float | int) and k != "step"}
        self.latest.update(numbers)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
