"""Dotted overrides of a configuration: ``optimizer.learning_rate=3e-4 data.sources.0.weight=2``."""

from __future__ import annotations

import ast
import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from kmm_jax.errors import ConfigError, nearest

T = TypeVar("T")

_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def apply(config: T, overrides: Sequence[str]) -> T:
    """The configuration with each ``path=value`` put in; of two for the same path the later counts.

    A path goes through fields of dataclasses and positions of tuples. Values take the type the
    field declares: numbers, ``true``, ``none`` where None is allowed, ``0.9,0.95`` for tuples; the
    name of a dataclass (``optimizer=Adafactor``) takes it with its defaults.

    Raises:
        ConfigError: no such field (names the nearest), or a value of another type.
    """
    root = _Node()
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            raise ConfigError(
                f"override {override!r} is not of the form path=value, such as "
                "optimizer.learning_rate=3e-4"
            )
        node = root
        for name in path.strip().split("."):
            node.override = node.override or override
            node = node.parts.setdefault(name, _Node())
        # A whole value replaces what was said of its parts before.
        node.override, node.text, node.parts = override, text.strip(), {}
    changed: T = _changed(config, root, Any, ())
    return changed


@dataclasses.dataclass
class _Node:
    """What is to change at one place: the whole value, then parts of it.

    All parts of a dataclass change at once, because it may check them against each other.
    """

    text: str | None = None
    override: str = ""
    parts: dict[str, _Node] = dataclasses.field(default_factory=dict)


def _changed(value: Any, node: _Node, hint: Any, before: tuple[str, ...]) -> Any:
    if node.text is not None:
        value = _coerced(node.text, hint, value, node.override)
    if not node.parts:
        return value
    first = next(iter(node.parts.values())).override
    here = ".".join(before) or "the experiment"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        names = [field.name for field in dataclasses.fields(value)]
        _check_names(node, names, here, nearest)
        new = {
            name: _changed(getattr(value, name), part, hints.get(name, Any), (*before, name))
            for name, part in node.parts.items()
        }
        try:
            return dataclasses.replace(value, **new)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"override {first!r}: {error}") from error
    if isinstance(value, tuple):
        valid = f"0 to {len(value) - 1}" if value else "none: it is empty"
        positions = [str(i) for i in range(len(value))]
        _check_names(node, positions, here, lambda name, _: f"; positions: {valid}")
        parts = (node.parts.get(position, _Node()) for position in positions)
        return tuple(
            _changed(old, part, type(old), (*before, str(i)))
            for i, (old, part) in enumerate(zip(value, parts, strict=True))
        )
    raise ConfigError(
        f"override {first!r}: {here} is {value!r}, which has no parts; write {'.'.join(before)}=..."
    )


def _check_names(
    node: _Node, names: Sequence[str], here: str, hint: Callable[[str, Sequence[str]], str]
) -> None:
    for name, part in node.parts.items():
        if name not in names:
            raise ConfigError(
                f"override {part.override!r}: {here} has no {name!r}{hint(name, names)}"
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
    if hint is Path:
        return Path(_parse(text, str))
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
