"""The dual encoders that scores use: each loaded once a process."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kmm_jax.errors import ConfigError

if TYPE_CHECKING:
    from kmm_jax.inference.model import Model

_loading = threading.Lock()


def encoder(path: str | None) -> Model:
    """The model at ``path``.

    Raises:
        DataError: there is none, or it is damaged.
        ConfigError: none is named.
    """
    if path is None:
        raise ConfigError("a score by a dual encoder needs its model: similarity.model=PATH")
    with _loading:  # of several threads one loads it
        return _load(path, _stamp(path))


def _stamp(path: str) -> tuple[tuple[str, int], ...]:
    """When the model's files were written; another run of the same name is another model."""
    folder = Path(path)
    files = [*folder.glob("*"), *folder.glob("checkpoints/*")]
    return tuple(sorted((file.name, file.stat().st_mtime_ns) for file in files))


@functools.lru_cache(maxsize=4)
def _load(path: str, stamp: tuple[tuple[str, int], ...]) -> Model:
    from kmm_jax import inference

    return inference.load(path)
