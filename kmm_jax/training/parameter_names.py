"""Parameters by name, such as ``vision/norm/scale``, and regular expressions over such names."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Any

import jax

from kmm_jax.errors import ConfigError, nearest


def named(params: Any) -> dict[str, Any]:
    """The leaves of nested parameters by their path."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def chosen(pattern: str, names: Iterable[str], *, setting: str) -> frozenset[str]:
    """The names that the regex matches as a whole.

    The tower that the models call ``vision`` may be called ``image``: in a pattern with that word,
    ``image/positions`` stands for ``vision/positions``.

    Args:
        setting: what the pattern was given for, for the message.

    Raises:
        ConfigError: it is no regex, or matches no name.
    """
    names = sorted(names)
    of_image = re.search(r"\bimage\b", pattern) is not None
    try:
        matching = re.compile(pattern).fullmatch
    except re.error as error:
        raise ConfigError(f"{setting} {pattern!r} is no regex: {error}") from error
    found = {
        name
        for name in names
        if matching(re.sub(r"(^|/)vision/", r"\1image/", name) if of_image else name)
    }
    if not found:
        modules = ", ".join(sorted({name.partition("/")[0] for name in names}))
        near = nearest(pattern, names) if names else ""
        near = near if near.startswith("; did you mean") else ""
        raise ConfigError(
            f"{setting} {pattern!r} names no parameter{near} Names are paths, matched as a whole, "
            f"which begin with one of: {modules}"
        )
    return frozenset(found)


def kept(params: Any, names: Container[str], prefix: str = "") -> dict[Any, Any]:
    """The nested parameters of these names alone, whatever is at their leaves."""
    found: dict[Any, Any] = {}
    for name, value in params.items():
        path = f"{prefix}{name}"
        if not isinstance(value, dict):
            if path in names:
                found[name] = value
        elif inner := kept(value, names, f"{path}/"):
            found[name] = inner
    return found


def overlaid(params: Any, new: Any) -> Any:
    """Nested parameters with those values of ``new`` that there are in place of theirs."""
    if new is None:
        return params
    if not isinstance(params, dict):
        return new
    return {name: overlaid(value, new.get(name)) for name, value in params.items()}
