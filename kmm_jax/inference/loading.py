"""From a path to a model in use: a run directory or an exported folder."""

from __future__ import annotations

import os
from pathlib import Path

from kmm_jax.inference.model import Model
from kmm_jax.interop import native


def load_model(path: str | os.PathLike[str], *, step: int | None) -> Model:
    """See ``kmm_jax.load``."""
    path = Path(path)
    exported = native.load(path)
    return Model(
        exported.config,
        exported.params,
        exported.tokenizer,
        styled=exported.styled,
        hash=native.model_hash(exported.config, exported.params),
        path=path,
    )
