"""The ``kmm`` command. Each sub-command is a few lines over a function of the library."""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from kmm_jax import __version__
from kmm_jax.errors import UserError

# Each module adds its sub-commands in `add(subparsers)`; none imports JAX before a command runs.
_GROUPS = (
    "train",
    "models",
    "data",
    "tokenizer",
    "classnames",
    "evaluate",
    "retrieve",
    "quickstart",
)


def parser() -> argparse.ArgumentParser:
    """The whole command line, every sub-command included."""
    root = argparse.ArgumentParser(
        prog="kmm", description="Korean multimodal AI in JAX: train, export, retrieve."
    )
    root.add_argument("--version", action="version", version=f"kmm_jax {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in _GROUPS:
        importlib.import_module(f"kmm_jax.cli.{group}").add(commands)
    return root


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments with the overrides that stand after an option put to the others.

    argparse takes positional arguments in one place only; people write ``a=b`` at the end as well.
    """
    root = parser()
    arguments, rest = root.parse_known_args(argv)
    overrides = getattr(arguments, "overrides", None)
    strange = [word for word in rest if overrides is None or word[0] == "-" or "=" not in word]
    if strange:
        root.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:
        arguments.overrides = [*(overrides or ()), *rest]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 for the user's mistakes, said in one message."""
    arguments = _parse(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except UserError as error:
        print(f"kmm {arguments.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or Path.cwd()
        print(
            f"kmm {arguments.command}: no space left on the disk that holds {where}; free some or "
            "choose another folder. Whole files written so far were kept and the run can continue.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"\nkmm {arguments.command}: interrupted", file=sys.stderr)
        return 130
