"""Errors that tell a person what was wrong, what was seen and what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class UserError(Exception):
    """A mistake the user can mend; the command line prints it alone and exits with code 2."""


class DataError(UserError):
    """Input data that cannot be used: missing, truncated, corrupt or of the wrong shape."""


class ConfigError(UserError):
    """A configuration that cannot work; raised before anything is compiled."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """The end of an error message: ``; did you mean 'x'?`` or the list of valid names."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid names: {', '.join(choices)}" if choices else ""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional third party, or say in one line which extra holds it.

    Raises:
        UserError: ``module`` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{module} is needed here and could not be imported ({error}); "
            f"install it with: pip install 'kmm-jax[{extra}]'"
        ) from error
