"""Python's time in a training step at 24 scanned layers: what the host does while devices compute.

CPU time of the loop's own thread between two batches, in the real loop with logging; waiting for
the device costs none. The model is as small as it can be, so that work XLA does in this thread is
small too; what remains of it counts against us.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.coca.config import small
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.loop import train
from kmm_jax.training.sharding import MeshConfig

_LAYERS, _BATCH, _STEPS, _WARM_UP, _WINDOW = 24, 1, 420, 20, 20


class _TimedLoader:
    """One batch again and again; notes the clocks whenever the loop asks for it."""

    examples = _BATCH

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._batch = {
            "image": rng.integers(0, 256, (_BATCH, 16, 16, 3), dtype=np.uint8),
            "text": rng.integers(7, 300, (_BATCH, 8)).astype(np.int32),
            "valid": np.ones(_BATCH, np.bool_),
        }
        self.thread_seconds: list[float] = []
        self.wall_seconds: list[float] = []

    @property
    def bad_rows(self) -> _TimedLoader:
        return self

    def metrics(self) -> dict[str, float]:
        return {"data/bad_rows": 0}

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        while True:
            self.thread_seconds.append(time.thread_time())
            self.wall_seconds.append(time.perf_counter())
            yield self._batch


def _experiment() -> Experiment:
    model = small(
        image_size=16,
        patch_size=8,
        width=16,
        depth=_LAYERS,
        half=_LAYERS // 2,
        vocabulary=300,
        length=8,
        queries=1,
    )
    return Experiment(
        name="step overhead",
        task=CoCaTask(model=model),
        data=DataConfig(sources=(SourceConfig(url="none"),), image_size=16, text_length=8),
        global_batch_size=_BATCH,
        duration=f"{_STEPS} steps",
        mesh=MeshConfig(data=1),
        checkpoint=CheckpointConfig(every="100%"),
        log_every="10 steps",
    )


def run() -> dict[str, Any]:
    """Milliseconds of Python a step: the mean of the least disturbed 20 in a row.

    Other work on the processor only ever adds to it, so the least is the truest; the median of all
    steps is given as well.
    """
    loader = _TimedLoader()
    with tempfile.TemporaryDirectory() as folder:
        train(_experiment(), folder, loader=loader)

    def each(clock: list[float]) -> list[float]:
        return [
            1e3 * (b - a) for a, b in zip(clock[_WARM_UP:], clock[_WARM_UP + 1 :], strict=False)
        ]

    python, wall = each(loader.thread_seconds), each(loader.wall_seconds)
    windows = range(0, len(python) - _WINDOW + 1, _WINDOW)
    return {
        "value": min(statistics.mean(python[i : i + _WINDOW]) for i in windows),
        "median_ms": statistics.median(python),
        "wall_ms": statistics.median(wall),
        "steps": len(python),
        "note": f"CoCa, {_LAYERS} image and {_LAYERS} text layers; "
        f"the least disturbed 20 steps, median {statistics.median(python):.1f} ms; "
        f"a step takes {statistics.median(wall):.1f} ms in all",
    }
