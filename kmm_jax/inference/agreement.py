"""Whether the settings of a model agree with those its weights were made with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from kmm_jax.models.clip.config import CLIPConfig
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.registry import ModelConfig

# What weights do not depend on: how a model is computed and trained, what it began as, and the size
# of its pictures, which positions are resized for. Masking shows in the parameters themselves.
_FREE = re.compile(
    r"(.*\.)?(remat|dtype|temperature)|vision\.(image_size|positions)|head\.(momentum|scored)"
    r"|learned_temperature|masking(\..*)?"
)
_OF_VOCABULARY = re.compile(r"text\.(vocabulary|pooling|eos_id|pad_id|cls_id)")

# Settings count where parameters are taken over that depend on them.
_CONCERN = (
    (r"vision\..*", r"(.*/)?vision/.*"),
    (r"text\..*", r"(.*/)?text/.*"),
    (r"embedding", r"(.*/)?(image|text)_projection/.*"),
)


def disagreements(
    wanted: ModelConfig, given: ModelConfig, taken: Iterable[str], *, swapped: bool
) -> list[str]:
    """The settings that must agree and do not, a line each: field, value here, weights' value.

    Args:
        taken: paths of the parameters taken over from the weights.
        swapped: whether the vocabulary is another.
    """
    taken = list(taken)
    ours, theirs = _leaves(wanted), _seen_from(wanted, given)
    unconcerned = [
        field for field, paths in _CONCERN if not any(re.fullmatch(paths, path) for path in taken)
    ]

    def counts(field: str) -> bool:
        if _FREE.fullmatch(field) or (swapped and _OF_VOCABULARY.fullmatch(field)):
            return False
        return not any(re.fullmatch(one, field) for one in unconcerned)

    return [
        f"  task.model.{field}: {ours[field]!r} here, {theirs[field]!r} in the weights"
        for field in ours
        if field in theirs and ours[field] != theirs[field] and counts(field)
    ]


def _seen_from(wanted: ModelConfig, given: ModelConfig) -> dict[str, Any]:
    """The weights' settings under the names that the wanted family has for them."""
    found = _leaves(given)
    if isinstance(wanted, CoCaConfig) and isinstance(given, CLIPConfig):
        # The text tower becomes the unimodal half; [CLS] takes the place after the longest text.
        found["text.unimodal_depth"] = given.text.depth
        found["text.length"] = given.text.length - 1
    return found


def _leaves(config: Any, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        name, value = f"{path}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= _leaves(value, f"{name}.")
        else:
            found[name] = value
    return found
