"""The ``kmm`` command. Each sub-command is a few lines over a function of the library."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import select
import shlex
import sys
from collections.abc import Sequence

from kmm_jax import __version__
from kmm_jax.cli.queries import take_terms
from kmm_jax.errors import UserError

# Each module adds its sub-commands in `add(subparsers)`; none imports JAX before a command runs.
_GROUPS = (
    "train",
    "plan",
    "plan_index",
    "models",
    "data",
    "corpus",
    "tokenizer",
    "classnames",
    "evaluate",
    "eval",
    "map",
    "heatmap",
    "check_parity",
    "ask",
    "attributes",
    "tag",
    "generate",
    "latents",
    "table",
    "index",
    "retrieve",
    "documents",
    "name",
    "label",
    "serve",
    "quickstart",
    "demo",
)

# Commands beside one of their first word, which takes a name of its own there.
_OF_TWO_WORDS = (("plan", "index"),)

# What can be done about errors of the disk that people can mend.
_ADVICE = {
    errno.EACCES: "check who may read and write there, or choose another path",
    errno.EPERM: "check who may read and write there, or choose another path",
    errno.EROFS: "choose a path on a disk that can be written",
    errno.ENOENT: "check the path",
    errno.EEXIST: "it is in the way; choose another path, or move it",
    errno.ENOTDIR: "a folder is needed where a file is; choose another path, or move the file",
    errno.EISDIR: "a file is needed where a folder is; choose another path",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


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

    argparse takes positional arguments in one place only; people write ``a=b`` at the end as well,
    and the terms of a composed query.
    """
    root = parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if tuple(words[:2]) in _OF_TWO_WORDS:
        words[:2] = [" ".join(words[:2])]
    arguments, rest = root.parse_known_args(words)
    rest = take_terms(arguments, rest)
    overrides = getattr(arguments, "overrides", None)
    strange = [
        word for word in rest if overrides is None or word.startswith("-") or "=" not in word
    ]
    if strange:
        root.error(f"unrecognized arguments: {shlex.join(strange)}")
    if rest:
        arguments.overrides = [*(overrides or ()), *rest]
    return arguments


def _disk_error(error: OSError) -> str:
    """What happened to which path, and what to do."""
    path = error.filename
    where = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else path
    if error.errno in _FULL:
        # A write to an open file does not say which; better none than a wrong one.
        disk = "a disk that is written to" if where is None else f"the disk that holds {where}"
        return (
            f"no space left on {disk}; free some or choose another folder. Whole files "
            "written so far were kept and the command can be run again."
        )
    what = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0, "check the disk and the path")
    return f"{where}: {what}; {advice}"


def _output_is_closed() -> bool:
    """Whether nobody reads the output any more: then it was its pipe that broke, and no other."""
    poller = select.poll()
    try:
        poller.register(sys.stdout.fileno(), 0)
    except OSError:  # it is no file at all
        return False
    return any(event & select.POLLERR for _, event in poller.poll(0))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 for the user's mistakes, said in one message.

    1, also said in one message, is a store across the network that stays out of reach.
    """
    arguments = _parse(argv)
    try:
        code = int(arguments.run(arguments) or 0)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"kmm {arguments.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        # Whoever read it (head, less) has seen enough; the rest must not be tried again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell says of SIGPIPE
    except ConnectionError as error:
        if error.errno is not None:
            raise
        print(f"kmm {arguments.command}: {error}", file=sys.stderr)
        return 1  # not the user's mistake: launchers start it again
    except OSError as error:
        if error.filename is None and error.errno not in _FULL:
            raise
        print(f"kmm {arguments.command}: {_disk_error(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nkmm {arguments.command}: interrupted", file=sys.stderr)
        return 130
