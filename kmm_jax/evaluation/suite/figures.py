"""What a benchmark's measurement collects: figures, how they came about, what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kmm_jax.evaluation.suite.benchmark import Benchmark, Figure, Task


class Figures:
    """Figures and sentences as they come."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self.figures: list[Figure] = []
        self.protocols: dict[str, str] = {}
        self.skipped: dict[str, str] = {}

    def add(
        self,
        task: Task,
        *,
        what: str,
        metric: str,
        language: str,
        value: float,
        interval: Sequence[float] | np.ndarray,
        chance: float | None,
        items: int,
        share: bool = True,
    ) -> None:
        """One more figure with its interval, (low, high)."""
        low, high = (float(bound) for bound in interval)
        self.figures.append(
            Figure(
                benchmark=self.benchmark.name,
                task=task,
                what=what,
                metric=metric,
                language=language,
                value=value,
                low=low,
                high=high,
                chance=chance,
                items=items,
                share=share,
            )
        )

    def say(self, task: Task, sentence: str) -> None:
        """One more sentence of how a task was measured."""
        sentence = sentence.removesuffix(".")
        before = self.protocols.get(task)
        self.protocols[task] = f"{before}. {sentence}" if before else sentence
