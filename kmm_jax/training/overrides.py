"""Dotted overrides of a configuration: ``optimizer.learning_rate=3e-4 data.sources.0.weight=2``."""

from __future__ import annotations

import ast
import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, Union

from kmm_jax.errors import ConfigError, nearest

T = TypeVar("T")

_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def apply(config: T, overrides: Sequence[str]) -> T:
    """The configuration with each ``path=value`` put in, in order.

    A path goes through fields of dataclasses and positions of tuples. Values take the type the
    field declares: numbers, ``true``, ``none`` where None is allowed, ``0.9,0.95`` for tuples; the
    name of a dataclass (``optimizer=Adafactor``) takes it with its defaults.

    Raises:
        ConfigError: no such field (names the nearest), or a value of another type.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            raise ConfigError(
                f"override {override!r} is not of the form path=value, such as "
                "optimizer.learning_rate=3e-4"
            )
        try:
            config = _replaced(config, path.strip().split("."), text.strip(), override, ())
        except (TypeError, ValueError) as error:
            raise ConfigError(f"override {override!r}: {error}") from error
    return config


def _replaced(
    value: Any, path: list[str], text: str, override: str, before: tuple[str, ...]
) -> Any:
    name, *rest = path
    here = ".".join(before) or "the experiment"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        if name not in names:
            raise ConfigError(
                f"override {override!r}: {here} has no {name!r}{nearest(name, names)}"
            )
        old = getattr(value, name)
        hint = typing.get_type_hints(type(value)).get(name, Any)
        new = (
            _replaced(old, rest, text, override, (*before, name))
            if rest
            else _coerced(text, hint, old, override)
        )
        return dataclasses.replace(value, **{name: new})
    if isinstance(value, tuple):
        positions = [str(i) for i in range(len(value))]
        if name not in positions:
            valid = f"0 to {len(value) - 1}" if value else "none: it is empty"
            raise ConfigError(f"override {override!r}: {here} has no {name!r}; positions: {valid}")
        i = int(name)
        new = (
            _replaced(value[i], rest, text, override, (*before, name))
            if rest
            else _coerced(text, type(value[i]), value[i], override)
        )
        return (*value[:i], new, *value[i + 1 :])
    raise ConfigError(
        f"override {override!r}: {here} is {value!r}, which has no parts; "
        f"write {'.'.join(before)}=..."
    )


def _coerced(text: str, hint: Any, old: Any, override: str) -> Any:
    if hint is Any:
        hint = type(old) if isinstance(old, bool | int | float | str) else Any
    try:
        return _parse(text, hint)
    except _MismatchError:
        raise ConfigError(
            f"override {override!r}: {text!r} is no {_shown(hint)} (now {old!r})"
            + (nearest(text, map(str, typing.get_args(hint))) if _is_literal(hint) else "")
        ) from None


class _MismatchError(Exception):
    """The text is no value of the type."""


def _parse(text: str, hint: Any) -> Any:
    """``text`` as a value of ``hint``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _parse_union(text, arguments)
    if _is_literal(hint):
        for choice in arguments:
            if text == str(choice):
                return choice
        raise _MismatchError
    if hint in (None, type(None)):
        if text.lower() in ("none", "null"):
            return None
        raise _MismatchError
    if hint is bool:
        if text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        raise _MismatchError
    if hint in (int, float):
        return _parse_number(text, hint)
    if hint is str:
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] in "\"'" else text
    if origin is tuple or hint is tuple:
        return _parse_tuple(text, arguments)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if text.lower() == hint.__name__.lower():
            return hint()
        raise _MismatchError
    if hint is Any:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
    raise _MismatchError


def _parse_union(text: str, arguments: tuple[Any, ...]) -> Any:
    # str takes anything, so it comes last; int before float keeps 3 a whole number.
    order = [type(None), bool, int, float]
    rank = {kind: i for i, kind in enumerate(order)} | {str: len(order) + 1}
    for argument in sorted(arguments, key=lambda kind: rank.get(kind, len(order))):
        try:
            return _parse(text, argument)
        except _MismatchError:
            continue
    raise _MismatchError


def _parse_number(text: str, kind: type[int] | type[float]) -> int | float:
    try:
        if kind is float:
            return float(text)
        try:
            return int(text)
        except ValueError:
            value = float(text)  # 1e6
            if not value.is_integer():
                raise
            return int(value)
    except (ValueError, OverflowError):
        raise _MismatchError from None


def _parse_tuple(text: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        values = ast.literal_eval(text)
        parts = [str(v) for v in values] if isinstance(values, tuple | list) else [text]
        nested = isinstance(values, tuple | list)
    except (ValueError, SyntaxError):
        values, nested = (), False
        parts = [part.strip() for part in text.strip("()[]").split(",") if part.strip()]
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        kinds: tuple[Any, ...] = (arguments[0],) * len(parts)
    else:
        kinds = arguments or (Any,) * len(parts)
    if len(kinds) != len(parts) or (nested and len(values) != len(parts)):
        raise _MismatchError
    return tuple(_parse(part, kind) for part, kind in zip(parts, kinds, strict=True))


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _shown(hint: Any) -> str:
    if _is_literal(hint):
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_shown, typing.get_args(hint)))
    if hint is type(None):
        return "none"
    if typing.get_origin(hint) is tuple:
        return str(hint).replace("typing.", "")
    return getattr(hint, "__name__", str(hint))
