"""Every model family and preset by name, and model configurations to JSON and back."""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import ConfigError, nearest
from kmm_jax.models.attributes.config import PRESETS as ATTRIBUTES_PRESETS
from kmm_jax.models.attributes.config import AttributesConfig
from kmm_jax.models.clip.config import PRESETS as CLIP_PRESETS
from kmm_jax.models.clip.config import CLIPConfig, XLMRobertaConfig
from kmm_jax.models.coca.config import PRESETS as COCA_PRESETS
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.oner.config import PRESETS as ONER_PRESETS
from kmm_jax.models.oner.config import OneRConfig
from kmm_jax.models.slip.config import PRESETS as SLIP_PRESETS
from kmm_jax.models.slip.config import SLIPConfig

if TYPE_CHECKING:
    from flax import nnx

ModelConfig = CLIPConfig | SLIPConfig | CoCaConfig | OneRConfig | AttributesConfig

# Family -> (configuration, where its module is defined); modules are imported when one is built.
_FAMILIES: dict[str, tuple[type, str]] = {
    "clip": (CLIPConfig, "kmm_jax.models.clip.modeling:CLIP"),
    "slip": (SLIPConfig, "kmm_jax.models.slip.modeling:SLIP"),
    "coca": (CoCaConfig, "kmm_jax.models.coca.modeling:CoCa"),
    "oner": (OneRConfig, "kmm_jax.models.oner.modeling:OneR"),
    "attributes": (AttributesConfig, "kmm_jax.models.attributes.modeling:Attributes"),
}

# What a part is, where a field takes parts of several kinds. The first kind of such a field has no
# name here, and none in JSON: it was the only one once.
_KINDS: dict[str, type] = {"xlm-roberta": XLMRobertaConfig}

PRESETS: dict[str, Callable[..., ModelConfig]] = {
    **CLIP_PRESETS,
    **SLIP_PRESETS,
    **COCA_PRESETS,
    **ONER_PRESETS,
    **ATTRIBUTES_PRESETS,
}


def preset(name: str, **changes: Any) -> ModelConfig:
    """The configuration called ``name``, built with ``changes`` (e.g. ``vocabulary=8000``).

    Raises:
        ConfigError: no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"no model preset {name!r}{nearest(name, PRESETS)}")
    return PRESETS[name](**changes)


def family(config: ModelConfig) -> str:
    """The family a configuration belongs to, ``"coca"`` for one."""
    return next(name for name, (kind, _) in _FAMILIES.items() if isinstance(config, kind))


def build(config: ModelConfig, *, rngs: nnx.Rngs) -> nnx.Module:
    """The model of ``config`` with fresh parameters; under ``nnx.eval_shape`` only their shapes."""
    module, _, name = _FAMILIES[family(config)][1].partition(":")
    return getattr(importlib.import_module(module), name)(config, rngs=rngs)


def to_json(config: ModelConfig) -> dict[str, Any]:
    """A configuration as plain JSON values, its family under ``"family"``.

    A part of a kind that does not go without saying has it under ``"kind"``.
    """
    return {"family": family(config), **_to_json(config)}


def kind(part: Any) -> str | None:
    """What tells a part of a configuration from others in its place; None for the first kind."""
    return next((name for name, each in _KINDS.items() if isinstance(part, each)), None)


def _to_json(value: Any) -> Any:
    if not dataclasses.is_dataclass(value):
        return value
    named = {
        field.name: _to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
    }
    return {"kind": kind(value), **named} if kind(value) else named


def from_json(values: dict[str, Any]) -> ModelConfig:
    """The inverse of ``to_json``.

    Raises:
        ConfigError: an unknown family, kind or field, or a missing field.
    """
    values = dict(values)
    name = str(values.pop("family", ""))
    if name not in _FAMILIES:
        raise ConfigError(f"no model family {name!r}{nearest(name, _FAMILIES)}")
    return _from_json(_FAMILIES[name][0], values)


def _from_json(kind: Any, values: Any) -> Any:
    nested: list[Any] = [one for one in typing.get_args(kind) if dataclasses.is_dataclass(one)]
    if nested and values is not None:  # a field that may be None, or is of several kinds
        kind, values = _kind_of(nested, values)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(values) - set(hints))
        if unknown:
            raise ConfigError(
                f"{kind.__name__} has no field {unknown[0]!r}{nearest(unknown[0], hints)}"
            )
        try:
            return kind(**{key: _from_json(hints[key], value) for key, value in values.items()})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{kind.__name__}: {error}") from error
    return tuple(values) if isinstance(values, list) else values


def _kind_of(kinds: list[Any], values: Any) -> tuple[Any, Any]:
    """Which of several kinds a part is, and the part without the name of its kind."""
    if not isinstance(values, dict) or "kind" not in values:
        return kinds[0], values
    name = str(values["kind"])
    if _KINDS.get(name) not in kinds:
        known = [known for known, each in _KINDS.items() if each in kinds]
        raise ConfigError(f"no kind {name!r} here{nearest(name, known)}")
    return _KINDS[name], {key: value for key, value in values.items() if key != "kind"}
