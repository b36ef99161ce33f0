"""A trained model ready for use: ``load`` it, then embed and caption."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kmm_jax.inference.model import Model


def load(
    path: str | os.PathLike[str],
    *,
    step: int | None = None,
    weights: Literal["params", "ema"] | None = None,
) -> Model:
    """Load a run directory or an exported model.

    Args:
        step: of a run, the checkpoint to take; its newest whole one by default.
        weights: of a run, its parameters or their average. By default the average where it kept
            one, but the student where the average was its teacher.

    Raises:
        DataError: nothing usable is there.
    """
    from kmm_jax.inference.loading import load_model

    return load_model(path, step=step, weights=weights)
