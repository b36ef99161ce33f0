"""``kmm table``: the rows of a table, trained and measured."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add ``kmm table``."""
    command = commands.add_parser(
        "table",
        help="train and measure the rows of a table (OneR's: kmm table oner/shop)",
        description="Runs what is missing, row by row; the same command again goes on where it "
        "stopped. Prints the table in the form of the talk's slide and writes it to --output.",
    )
    command.add_argument(
        "config",
        metavar="CONFIG",
        help="a config file with a table() or its name: oner/shop, oner/products, oner/cc3m; "
        "oner is oner/shop",
    )
    command.add_argument("--output", type=Path, metavar="DIR", help="default: runs/tables/CONFIG")
    command.add_argument("--rows", metavar="A,B", help="only these, ablations too")
    command.add_argument(
        "--ablations", action="store_true", help="the rows that take the naive one apart as well"
    )
    command.add_argument("--seeds", default="0", metavar="0,1,2", help="default: %(default)s")
    command.add_argument(
        "--equal-flops",
        nargs="?",
        const="clip,two_heads",
        metavar="A,B",
        help="train these rows once more, for as many operations as the last row takes "
        "(default: clip,two_heads)",
    )
    command.add_argument(
        "--measured", type=Path, metavar="DIR", help="keep the measures elsewhere than in --output"
    )
    command.add_argument("--folder", type=Path, help="where a real data set's files are")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help='a change of every row, such as duration="100 steps"',
    )
    command.add_argument(
        "--dry-run", action="store_true", help="say what would be run, and run nothing"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing; print and write the table; 130 if interrupted."""
    from kmm_jax.errors import UserError
    from kmm_jax.tables import page
    from kmm_jax.tables.config import Table
    from kmm_jax.tables.run import already, cells
    from kmm_jax.tables.run import run as run_table
    from kmm_jax.training import overrides
    from kmm_jax.training.config_file import load_config
    from kmm_jax.training.processes import discover

    if discover(os.environ) is not None:
        raise UserError(
            "kmm table runs in one process; under a launcher train each row into "
            "OUTPUT/runs/ROW-seedN with kmm train CONFIG:ROW, and measure afterwards"
        )
    name = "oner/shop" if arguments.config == "oner" else arguments.config
    table: Table = load_config(name, function="table", kind=Table)
    rows = _split(arguments.rows) or list(table.rows)
    if arguments.ablations:
        rows += [row for row in table.ablations if row not in rows]
    wanted = cells(
        table,
        rows=rows,
        seeds=_seeds(arguments.seeds),
        equal_flops=_split(arguments.equal_flops),
        change=lambda experiment: overrides.apply(experiment, arguments.set),
    )
    stem = name.removesuffix(".py").removeprefix("./").removeprefix("configs/")
    output = arguments.output or Path("runs/tables") / stem.strip("/").replace("/", "-")
    measured = arguments.measured or output / "measured"
    if arguments.dry_run:
        there = {(cell["row"], cell["seed"]) for cell in already(table, measured, wanted)}
        for cell in wanted:
            state = "measured" if (cell.row, cell.seed) in there else cell.experiment.duration
            print(f"{cell.name}: {state}")
        return 0
    folder = arguments.folder or (Path(f) if (f := os.environ.get("KMM_DATA_DIR")) else None)
    found = run_table(table, wanted, output, measured=measured, folder=folder)
    if found is None:
        return 130
    written = page.write(table, found, output)
    print(page.markdown(table, found))
    print(f"{written}, table.json and gap.svg beside it")
    return 0


def _split(text: str | None) -> list[str]:
    return [name for name in (part.strip() for part in (text or "").split(",")) if name]


def _seeds(text: str) -> list[int]:
    from kmm_jax.errors import UserError

    parts = _split(text)
    if not parts or not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--seeds takes different whole numbers such as 0,1,2, got {text!r}")
    return [int(part) for part in parts]
