"""A configuration as flat text, and as JSON and back."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from kmm_jax.errors import ConfigError

_TYPE, _PARTITION = "type", "partition"


def dump(config: Any) -> str:
    """One line a leaf, ``optimizer.learning_rate = 0.001``; equal configurations, equal text."""
    return "".join(f"{path} = {value!r}\n" for path, value in leaves(to_json(config)).items())


def leaves(values: Any) -> dict[str, Any]:
    """The leaves of nested JSON by dotted path, in their order."""
    return dict(_leaves(values, ""))


def to_json(config: Any, path: str = "") -> Any:
    """Plain JSON values; a dataclass becomes an object with its ``"type": "module:Name"``.

    Raises:
        ConfigError: something in it is no data, a function for instance; names where.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        kind = type(config)
        fields = {
            field.name: to_json(getattr(config, field.name), _join(path, field.name))
            for field in dataclasses.fields(config)
            if field.init  # the others are no configuration
        }
        return {_TYPE: f"{kind.__module__}:{kind.__qualname__}", **fields}
    if config is None or isinstance(config, bool | int | float | str):
        return config
    if _is_partition(config):
        return {_PARTITION: [list(axes) if isinstance(axes, tuple) else axes for axes in config]}
    if isinstance(config, PurePath):
        return str(config)
    if isinstance(config, tuple | list):
        return [to_json(value, _join(path, str(i))) for i, value in enumerate(config)]
    if isinstance(config, Mapping) and not {_TYPE, _PARTITION} & config.keys():
        return {str(key): to_json(value, _join(path, str(key))) for key, value in config.items()}
    raise ConfigError(
        f"{path or 'the configuration'} is a {type(config).__name__}, which cannot be kept as "
        "JSON; use numbers, texts, tuples and frozen dataclasses"
    )


def from_json(values: Any) -> Any:
    """The inverse of ``to_json``; lists become tuples.

    Only dataclasses of this library are built, so that a run directory from elsewhere runs nothing.

    Raises:
        ConfigError: another type is named, or its fields do not fit this version.
    """
    if isinstance(values, list):
        return tuple(from_json(value) for value in values)
    if not isinstance(values, dict):
        return values
    if _PARTITION in values:
        from jax.sharding import PartitionSpec

        axes = (tuple(axis) if isinstance(axis, list) else axis for axis in values[_PARTITION])
        return PartitionSpec(*axes)
    fields = {key: from_json(value) for key, value in values.items() if key != _TYPE}
    if _TYPE not in values:
        return fields
    try:
        return _dataclass(str(values[_TYPE]))(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{values[_TYPE]} cannot be rebuilt: {error}; it was written by another version"
        ) from error


def _is_partition(config: Any) -> bool:
    # Who has one has imported JAX; the corpus's many processes have none and start without it.
    return "jax" in sys.modules and isinstance(config, sys.modules["jax"].sharding.PartitionSpec)


def _dataclass(name: str) -> type:
    module, _, qualname = name.partition(":")
    found: Any = None
    if module.split(".")[0] == "kmm_jax" and qualname.isidentifier():
        try:
            found = getattr(importlib.import_module(module), qualname, None)
        except ImportError:
            found = None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ConfigError(f"{name!r} is no configuration of kmm_jax")
    return found


def _leaves(values: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict) and _PARTITION in values:
        yield path, f"PartitionSpec{tuple(from_json(values))}"
    elif isinstance(values, dict | list) and values:
        named = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in named:
            yield from _leaves(value, _join(path, str(key)))
    else:
        yield path, values


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
