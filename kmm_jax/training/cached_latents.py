"""Whether the latents that a run is given are those of the autoencoder that it holds."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from kmm_jax.data.latents import About
from kmm_jax.errors import ConfigError
from kmm_jax.interop.native import params_hash
from kmm_jax.training.task import LatentTask, Task
from kmm_jax.training.trained import Trained


def check_settings(task: Task, about: About | None) -> None:
    """What the configuration alone can tell; before anything is computed.

    Raises:
        ConfigError: the task takes no latents, or others.
    """
    if about is None:
        return
    if not isinstance(task, LatentTask):
        raise ConfigError(
            f"data.sources has latents, which {type(task).__name__} does not take; name the "
            f"pictures they were made of ({about.source})"
        )
    task.check_latents(about)


def check_weights(task: Task, about: About | None, params: Any, trained: Trained) -> None:
    """Whether the autoencoder is the one that made them, and stays so.

    A collective call where there are several processes.

    Raises:
        ConfigError: it is another, or is trained.
    """
    if about is None or not isinstance(task, LatentTask):
        return
    part = task.autoencoder
    if trained.names is None or any(name.startswith(f"{part}/") for name in trained.names):
        raise ConfigError(
            f"the autoencoder of cached latents must stay as it is; set freeze='{part}/.*', or "
            "train on pictures"
        )
    found = params_hash(jax.tree.map(_whole, params[part]))
    if found != about.autoencoder:
        raise ConfigError(
            f"the latents were made by the autoencoder {about.autoencoder}, and this run's is "
            f"{found}: begin with the weights that made them (--init), or make them anew with "
            "kmm latents"
        )


def _whole(leaf: Any) -> np.ndarray:
    """An array on this host, wherever its pieces are."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)
