"""When to save and what to keep."""

from __future__ import annotations

import dataclasses
from typing import Literal

from kmm_jax.errors import ConfigError
from kmm_jax.training import duration


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Checkpoints of a run; the last step is always saved.

    Attributes:
        every: duration between two checkpoints.
        keep_latest: how many of the newest to keep.
        keep_best: how many more to keep, the best by ``best_metric``.
        best_metric: a metric of the loop or of an evaluator, as ``metrics.jsonl`` names it; its
            last value before the save counts.
        best_is: whether a high or a low value is good.
    """

    every: str = "5%"
    keep_latest: int = 2
    keep_best: int = 0
    best_metric: str | None = None
    best_is: Literal["highest", "lowest"] = "highest"

    def __post_init__(self) -> None:
        duration.parse(self.every)
        if self.keep_latest < 1:
            raise ConfigError(f"checkpoint.keep_latest must be at least 1, got {self.keep_latest}")
        if self.keep_best < 0 or (self.keep_best > 0) != (self.best_metric is not None):
            raise ConfigError(
                "checkpoint.keep_best and checkpoint.best_metric go together, got "
                f"{self.keep_best} and {self.best_metric!r}"
            )
