"""Parameters to begin a run from: those of another run or export, fitted to a new configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kmm_jax.errors import ConfigError
from kmm_jax.inference.loading import read
from kmm_jax.interop.native import flatten, parameter_shapes, unflatten
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.vision import resize_positions
from kmm_jax.text.tokenizer import FILE_NAME, Tokenizer
from kmm_jax.training.run_place import location

_POSITIONS = ("vision.positions", "clip.vision.positions")  # the latter of a SLIP
_SHOWN = 5


def initial_params(
    path: str | os.PathLike[str],
    config: ModelConfig,
    *,
    tokenizer: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """The parameters at ``path`` for a model of ``config``.

    Another image size is the one difference that is made up for: position embeddings are resized
    (CoCa, section 4.1).

    Args:
        tokenizer: the folder or file of the one to train with; None where texts come as ids.

    Returns:
        Nested dicts of float32 NumPy arrays, as a new module of ``config`` has them.

    Raises:
        DataError: no model there.
        ConfigError: other parameters than ``config`` has; the differences are listed. Or another
            tokenizer, to whose ids the token embeddings would not belong.
    """
    path = location(path)
    exported = read(path)
    if tokenizer is not None:
        _check_tokenizer(path, exported.tokenizer, Path(tokenizer))
    given = flatten(exported.params)
    wanted = parameter_shapes(config)
    vision = config.vision
    for name in _POSITIONS:
        if name in given and given[name].shape != wanted.get(name):
            resized = resize_positions(
                jax.numpy.asarray(given[name]),
                vision.patches,
                class_token=getattr(vision, "class_token", False),
            )
            given[name] = np.asarray(resized)
    different = [
        f"  {name}: {given[name].shape if name in given else 'not there'} -> "
        f"{wanted.get(name, 'not wanted')}"
        for name in sorted(wanted.keys() | given.keys())
        if name not in given or given[name].shape != wanted.get(name)
    ]
    if different:
        more = f"\n  ... and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        raise ConfigError(
            f"the parameters at {path} do not fit this model:\n"
            + "\n".join(different[:_SHOWN])
            + more
            + "\nOnly the image size may differ; make task.model equal otherwise"
        )
    return unflatten(given)


def _check_tokenizer(path: Path | str, before: Tokenizer, folder: Path) -> None:
    now = Tokenizer.load(folder)
    if now.fingerprint != before.fingerprint:
        exported = isinstance(path, Path) and (path / FILE_NAME).is_file()
        own = path if exported else f"{path}/tokenizer"
        raise ConfigError(
            f"{path} was trained with the tokenizer {own} ({_short(before)}), and this run names "
            f"{folder} ({_short(now)}): the same ids mean other pieces of text, so that its token "
            f"embeddings would be scrambled. Train with tokenizer={own}"
        )


def _short(tokenizer: Tokenizer) -> str:
    return f"{tokenizer.vocab_size} tokens, SHA-256 {tokenizer.fingerprint[:12]}"
