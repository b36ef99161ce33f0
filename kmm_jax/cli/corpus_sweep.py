"""``kmm corpus sweep``: which similarity threshold trains best."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add ``kmm corpus sweep``."""
    command = commands.add_parser(
        "sweep",
        help="find the best similarity threshold by training at each",
        description="Train the same small model on equally many rows at each threshold, on titles "
        "and on queries, and compare their zero-shot scores. Build the corpus with "
        "similarity.model=PATH and no thresholds first. The same command again trains only what is "
        "missing.",
    )
    command.add_argument("shards", metavar="SHARDS", help="scored shards, as corpus build writes")
    command.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help="of the config")
    command.add_argument("--test", required=True, metavar="SOURCE", help="rows with labels")
    command.add_argument("--classes", required=True, metavar="SET", help="see kmm classnames")
    command.add_argument("--label", required=True, metavar="KEY", help="that names the class")
    command.add_argument("--lang", choices=("ko", "en"), default="ko")
    command.add_argument("--candidates", choices=("all", "present"), default="all")
    command.add_argument("--fields", default="title,query", help="default: %(default)s")
    command.add_argument(
        "--thresholds",
        default="",
        metavar="X,X,...",
        help="`all` among them for no threshold (default: all, and where 10, 25, 50 and 75 %% of "
        "rows lie below)",
    )
    command.add_argument("--rows", type=int, help="at each (default: what the scarcest has)")
    command.add_argument("--seeds", type=int, default=1, help="trainings each (default: 1)")
    command.add_argument("--config", default="clip/sweep", help="what to train (%(default)s)")
    command.add_argument("--tokenizer", metavar="FOLDER", help="default: one trained on the texts")
    command.add_argument("--vocabulary", type=int, default=32_000, help="of that one")
    command.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Sweep, and say which threshold is best."""
    from kmm_jax.corpus.sweep.page import sentence
    from kmm_jax.corpus.sweep.run import Sweep, sweep
    from kmm_jax.evaluation.classes import named_classes
    from kmm_jax.evaluation.evaluate import Plan

    settings = Sweep(
        shards=arguments.shards,
        test=arguments.test,
        plan=Plan(
            classify=((named_classes(arguments.classes, arguments.lang), arguments.label),),
            candidates=arguments.candidates,
        ),
        fields=tuple(name.strip() for name in arguments.fields.split(",")),
        thresholds=tuple(_threshold(text) for text in arguments.thresholds.split(",") if text),
        rows=arguments.rows,
        seeds=arguments.seeds,
        config=arguments.config,
        overrides=tuple(arguments.overrides),
        tokenizer=arguments.tokenizer,
        vocabulary=arguments.vocabulary,
    )
    result = sweep(settings, arguments.output, lambda text: print(text, file=sys.stderr))
    print(sentence(result))
    print(arguments.output / "sweep.html")
    return 0


def _threshold(text: str) -> float | None:
    from kmm_jax.errors import UserError

    if text.strip() == "all":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"--thresholds: {text!r} is no number and not `all`") from error
