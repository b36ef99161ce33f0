"""``kmm eval thumbnail``: the table of slide 5.2 from labels."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError

NAME = "thumbnail"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what only ``kmm eval thumbnail`` takes."""
    group = command.add_argument_group(
        "kmm eval thumbnail LABELS.jsonl ...",
        "The table of slide 5.2 (coverage, image scores, mean after filtering) of every model in "
        "files that kmm label thumbnail made, with intervals and the agreement of raters.",
    )
    group.add_argument(
        "--most-bad",
        type=float,
        metavar="SHARE",
        help="find the floor of each model that leaves at most this share of bad pictures",
    )
    group.add_argument(
        "--sure",
        type=float,
        metavar="P",
        help="a floor that keeps to it for new pictures with this probability; needs many labels",
    )
    group.add_argument(
        "--bad", type=int, choices=(1, 2, 3), default=2, help="scores up to it (default: 2)"
    )


def run(arguments: argparse.Namespace, files: list[str]) -> int:
    """Print and write the table."""
    from kmm_jax.evaluation import thumbnail_page
    from kmm_jax.evaluation.thumbnail_log import read_log
    from kmm_jax.evaluation.thumbnails import table

    if not files:
        raise UserError("name at least one file of labels: kmm eval thumbnail LABELS.jsonl")
    if arguments.sure is not None and arguments.most_bad is None:
        raise UserError("--sure is about a floor: say with --most-bad how many bad ones it leaves")
    logs = []
    for name in files:
        logs.append(read_log(Path(name)))
        if logs[-1].torn:
            print(f"{name}: its last line was cut and is left out", file=sys.stderr)
    found = table(logs, most_bad=arguments.most_bad, sure=arguments.sure, bad=arguments.bad)
    about: dict[str, Any] = {"command": shlex.join(["kmm", *sys.argv[1:]])}
    if arguments.most_bad is not None:
        about |= {"most bad": arguments.most_bad, "bad": f"scores up to {arguments.bad}"}
        about |= {"sure": arguments.sure} if arguments.sure is not None else {}
    written = thumbnail_page.write(arguments.output or Path("runs/thumbnail"), found, about)
    print(thumbnail_page.to_markdown(found, about), end="")
    print(", ".join(str(path) for path in written))
    return 0
