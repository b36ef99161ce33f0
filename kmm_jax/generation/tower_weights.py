"""A published XLM-RoBERTa, as the tower that a resampled text encoder begins with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from kmm_jax.errors import ConfigError
from kmm_jax.interop.families import recognise, xlm_roberta
from kmm_jax.interop.families.base import Hints
from kmm_jax.interop.names import taken
from kmm_jax.interop.native import unflatten
from kmm_jax.interop.weights import open_weights
from kmm_jax.models.clip.config import XLMRobertaConfig
from kmm_jax.text.adopted import adopt
from kmm_jax.text.tokenizer import Tokenizer

# How a tower is used, and not what its weights are.
_FREE = ("length", "pooling", "projection", "remat")


def tower_params(path: Path, config: XLMRobertaConfig, shapes: Any) -> dict[str, Any]:
    """The parameters of a tower, nested.

    Args:
        path: folder or file of an XLMRobertaModel, with or without a head, in safetensors.
        shapes: of the tower's parameters, by flat name.

    Raises:
        ConfigError: another tower than ``config`` says; all differences are listed.
        UserError, DataError: no such weights, or damaged.
    """
    family, weights = recognise(open_weights(path))
    if family is not xlm_roberta.FAMILY:
        raise ConfigError(
            f"task.student_weights={path} are of {family.title}; a resampled student's tower takes "
            f"those of {xlm_roberta.FAMILY.title}"
        )
    about = weights.about("config.json")
    found = xlm_roberta.tower(
        weights, "", Hints(length=config.length), about, projection=config.projection
    )
    fields = [each.name for each in dataclasses.fields(config) if each.name not in _FREE]
    different = [
        f"task.model.student.tower.{name}={getattr(found, name)!r}"
        for name in fields
        if getattr(found, name) != getattr(config, name)
    ]
    if different:
        raise ConfigError(f"the tower at {path} is another one; set " + " ".join(different))
    rules = xlm_roberta.tower_rules("", "tower")
    named = {f"tower.{name}": shape for name, shape in shapes.items()}
    ignored = rf"{xlm_roberta.UNREAD}|lm_head\..*"
    return dict(unflatten(taken(rules, weights, named, ignored=ignored))["tower"])


def tower_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that lies beside a tower.

    Raises:
        UserError: there is none.
    """
    return Tokenizer(adopt(path if path.is_dir() else path.parent))
