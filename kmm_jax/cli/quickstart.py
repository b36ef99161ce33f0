"""``kmm quickstart``: the whole path on one machine, ending in a report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add ``kmm quickstart``."""
    command = commands.add_parser(
        "quickstart",
        help="data, training, scores, index, searches and a report, in 8 to 15 minutes",
        description="Run the whole path. Interrupted, the same command continues.",
    )
    command.add_argument(
        "--data",
        default="shop",
        help="shop (built in), fashion_products or cifar10 (default: %(default)s)",
    )
    command.add_argument(
        "--folder",
        type=Path,
        help="where the real sets lie (default: the environment variable KMM_DATA_DIR)",
    )
    command.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    command.add_argument(
        "overrides", nargs="*", metavar="PATH=VALUE", help="of the training config coca/shop"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it and say where the report is."""
    from kmm_jax.quickstart.run import quickstart

    quickstart(
        arguments.data,
        arguments.output,
        folder=arguments.folder,
        overrides=tuple(arguments.overrides),
    )
    print(f"\nreport: {arguments.output / 'report.html'}")
    return 0
