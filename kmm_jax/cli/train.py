"""``kmm train``: run an experiment, or go on with it."""

from __future__ import annotations

import argparse
import functools
import math
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add ``kmm train``."""
    command = commands.add_parser(
        "train",
        help="train a model from a config file; the same command again continues it",
        description="Train, or continue from the newest whole checkpoint in --run-dir. "
        "SIGTERM and Ctrl-C save first.",
    )
    command.add_argument("config", help="a config file, or its name under configs/ (coca/shop)")
    command.add_argument(
        "overrides",
        nargs="*",
        metavar="PATH=VALUE",
        help='such as optimizer.learning_rate=3e-4 data.sources.0.weight=2 duration="3 epochs"',
    )
    command.add_argument("--run-dir", type=Path, help="the run's folder; runs/NAME by default")
    command.add_argument(
        "--init",
        type=Path,
        metavar="MODEL",
        help="begin from the parameters of a run or an exported model; a larger image size resizes "
        "its positions",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="print the whole configuration, mesh, parameters and memory, and train nothing",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train; 0 also after SIGTERM (all is saved), 130 after Ctrl-C."""
    from kmm_jax.training.config_file import load_experiment

    experiment = load_experiment(arguments.config, arguments.overrides)
    if arguments.dry_run:
        return _dry_run(experiment)
    from kmm_jax.training.loop import train

    initial = None
    if arguments.init is not None:
        from kmm_jax.inference.initial import initial_params

        initial = functools.partial(initial_params, arguments.init, experiment.task.model)
    run_dir = arguments.run_dir or Path("runs") / experiment.name
    result = train(experiment, run_dir, initial=initial)
    if result.end == "finished":
        loss = result.metrics.get("loss", math.nan)
        print(f"{run_dir}: {result.step} steps, loss {loss:.4f}")
    return 130 if result.end == "SIGINT" else 0


def _dry_run(experiment: Any) -> int:
    from kmm_jax.training import setup
    from kmm_jax.training.dump import dump

    print(dump(experiment), end="")
    mesh = setup.prepare_mesh(experiment)
    prepared = setup.prepare(
        experiment, mesh, examples_per_epoch=_examples(experiment), vocabulary=None
    )
    print("\n" + setup.describe(experiment, prepared), end="")
    return 0


def _examples(experiment: Any) -> int:
    """Rows in an epoch; the sources are opened only where something is given in epochs."""
    from kmm_jax.data.sources import open_source
    from kmm_jax.training.duration import parse

    lengths = (experiment.duration, experiment.optimizer.warmup)
    if all(parse(length).unit != "epochs" for length in lengths):
        return 1
    return sum(len(open_source(source.url)) for source in experiment.data.sources)
