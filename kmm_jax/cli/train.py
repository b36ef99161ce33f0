"""``kmm train``: run an experiment, or go on with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add ``kmm train``."""
    command = commands.add_parser(
        "train",
        usage="kmm train CONFIG [PATH=VALUE ...] [--run-dir DIR] [--dry-run]",
        help="train a model from a config file; the same command again continues it",
        description="Train, or continue from the newest whole checkpoint in --run-dir. "
        "SIGTERM and Ctrl-C save first.",
    )
    # argparse takes positional words in one place only; people put overrides at the end too, so
    # the options take what follows them, and `run` sorts the words out.
    command.add_argument(
        "words",
        nargs="*",
        metavar="CONFIG PATH=VALUE",
        help="a config file, or its name under configs/ (coca/shop), and changes to it such as "
        'optimizer.learning_rate=3e-4 data.sources.0.weight=2 duration="3 epochs"',
    )
    command.add_argument(
        "--run-dir",
        nargs="+",
        default=[],
        metavar=("DIR", ""),
        help="the run's folder; runs/NAME by default",
    )
    command.add_argument(
        "--dry-run",
        nargs="*",
        metavar="",
        help="print the whole configuration, mesh, parameters and memory, and train nothing",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train; 0 also after SIGTERM (all is saved), 130 after Ctrl-C."""
    from kmm_jax.errors import ConfigError
    from kmm_jax.training.config_file import load_experiment

    folder, *after_folder = arguments.run_dir or [None]
    words = [*arguments.words, *after_folder, *(arguments.dry_run or ())]
    configs = [word for word in words if "=" not in word]
    if len(configs) != 1:
        raise ConfigError(f"give one config file or name, such as coca/shop; got {configs}")
    experiment = load_experiment(configs[0], [word for word in words if "=" in word])
    if arguments.dry_run is not None:
        return _dry_run(experiment)
    from kmm_jax.training.loop import train

    run_dir = Path(folder) if folder else Path("runs") / experiment.name
    result = train(experiment, run_dir)
    if result.end == "finished":
        print(f"{run_dir}: {result.step} steps, loss {result.metrics['loss']:.4f}")
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
