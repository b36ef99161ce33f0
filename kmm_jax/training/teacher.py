"""The average of a run's parameters: kept for use, or as a teacher for the task."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax

from kmm_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teacher:
    """A momentum encoder (MoCo v3, arXiv 2104.02057; BYOL, arXiv 2006.07733, section 3.1).

    Attributes:
        momentum: decay of the average at the run's beginning.
        final: what it rises to by the end of the run, along a half cosine.
    """

    momentum: float = 0.99
    final: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.momentum <= self.final <= 1:
            raise ConfigError(
                "teacher.momentum must lie between 0 and teacher.final, and that be at most 1; "
                f"got {self.momentum} and {self.final}"
            )


def decay(ema: float | None, teacher: Teacher | None, total_steps: int) -> optax.Schedule | None:
    """The average's decay after so many updates; None where no average is kept."""
    if teacher is None:
        return None if ema is None else lambda _: jnp.float32(ema)
    first, final = teacher.momentum, teacher.final

    def schedule(step: Any) -> Any:
        left = 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(step / total_steps, 1.0))
        return final - (final - first) * left

    return schedule
