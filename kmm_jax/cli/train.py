"""``kmm train``: run an experiment, or go on with it."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.cli.arguments import add_base, add_config

if TYPE_CHECKING:
    from kmm_jax.training.beginning import Beginning
    from kmm_jax.training.processes import Processes


def add(commands: Any) -> None:
    """Add ``kmm train``."""
    command = commands.add_parser(
        "train",
        help="train a model from a config file; the same command again continues it",
        description="Train, or continue from the newest whole checkpoint in --run-dir. "
        "SIGTERM and Ctrl-C save first.",
    )
    add_config(
        command,
        name="coca/shop",
        overrides="such as optimizer.learning_rate=3e-4 data.sources.0.weight=2 "
        'duration="3 epochs"',
    )
    command.add_argument(
        "--run-dir", help="the run's folder or URL (gs://..., s3://...); runs/NAME by default"
    )
    command.add_argument(
        "--init",
        metavar="WEIGHTS",
        help="begin with the parameters of a run, of an exported model or of another library's "
        "safetensors; another image size resizes their positions",
    )
    add_base(command, of="a generator's single file that --init names")
    command.add_argument(
        "--init-fresh",
        metavar="REGEX",
        help="parameters that begin fresh nevertheless, by their whole path",
    )
    command.add_argument(
        "--init-drop",
        metavar="REGEX",
        help="parameters of the weights to leave out, by their whole path",
    )
    command.add_argument(
        "--swap-vocabulary",
        action="store_true",
        help="make the weights' token embeddings anew for this run's tokenizer",
    )
    command.add_argument(
        "--freeze",
        metavar="REGEX",
        help="parameters that are not trained, by their whole path ('image/.*' is the image tower)",
    )
    command.add_argument(
        "--lr-decay",
        type=float,
        metavar="SHARE",
        help="each layer's learning rate over that of the layer above it, such as 0.75",
    )
    command.add_argument(
        "--profile",
        metavar="FIRST:LAST",
        help="trace these steps for the profiler, into profile/ of the run (such as 100:105)",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="print the whole configuration, mesh, parameters, memory and this process's part, and "
        "train nothing",
    )
    many = command.add_argument_group(
        "several processes",
        "Found by themselves under Slurm, JobSet, Open MPI and on TPU pods (see launch/).",
    )
    many.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    many.add_argument("--processes", type=int, metavar="N", help="how many there are")
    many.add_argument("--process", type=int, metavar="I", help="which this is, from 0")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train; 0 also after SIGTERM (all is saved), 130 after Ctrl-C."""
    from kmm_jax.training.config_file import load_experiment
    from kmm_jax.training.processes import discover, start

    experiment = load_experiment(arguments.config, arguments.overrides)
    if arguments.freeze is not None:
        experiment = dataclasses.replace(experiment, freeze=arguments.freeze)
    if arguments.lr_decay is not None:
        slower = dataclasses.replace(experiment.optimizer, layer_decay=arguments.lr_decay)
        experiment = dataclasses.replace(experiment, optimizer=slower)
    if arguments.profile is not None:
        window = _window(arguments.profile)
        experiment = dataclasses.replace(experiment, profile=window)
    processes = discover(
        os.environ,
        coordinator=arguments.coordinator,
        count=arguments.processes,
        index=arguments.process,
    )
    initial = _initial(arguments, experiment, processes)
    if arguments.dry_run:
        return _dry_run(experiment, processes, initial)
    if processes is not None:
        start(processes)
    from kmm_jax.training.loop import train

    run_dir = arguments.run_dir or Path("runs") / experiment.name
    result = train(experiment, run_dir, initial=initial)
    if result.end == "finished" and (processes is None or processes.index == 0):
        loss = result.metrics.get("loss", math.nan)
        print(f"{run_dir}: {result.step} steps, loss {loss:.4f}")
    return 130 if result.end == "SIGINT" else 0


def _initial(
    arguments: argparse.Namespace, experiment: Any, processes: Processes | None
) -> Beginning | None:
    from kmm_jax.errors import ConfigError

    options = {
        "fresh": arguments.init_fresh,
        "dropped": arguments.init_drop,
        "swap_vocabulary": arguments.swap_vocabulary,
    }
    if arguments.init is None:
        if any(options.values()) or arguments.base is not None:
            raise ConfigError(
                "--init-fresh, --init-drop, --swap-vocabulary and --base say what to take of the "
                "weights that --init names; give --init WEIGHTS"
            )
        return None
    first = processes is None or processes.index == 0

    def tell(text: str) -> None:
        if first:
            print(f"{experiment.name}: {text}", file=sys.stderr, flush=True)

    return _weights(arguments.init, experiment, options, tell, base=arguments.base)


def _weights(
    path: str,
    experiment: Any,
    options: dict[str, Any],
    tell: Callable[[str], None],
    *,
    base: Path | None,
) -> Beginning:
    from kmm_jax.errors import ConfigError
    from kmm_jax.models.diffusion.config import LatentDiffusionConfig
    from kmm_jax.models.diffusion.distillation import DistillationConfig

    model = experiment.task.model
    if not isinstance(model, LatentDiffusionConfig | DistillationConfig):
        from kmm_jax.inference.initial import InitialWeights

        if base is not None:
            raise ConfigError(f"--base {base} goes with the single file of a generator alone")
        return InitialWeights(path, model, tell=tell, **options)
    if any(options.values()):
        raise ConfigError(
            "--init-fresh, --init-drop and --swap-vocabulary are not known of generators, whose "
            "weights are taken part by part"
        )
    if isinstance(model, DistillationConfig):
        from kmm_jax.generation.teaching import teacher_weights

        return teacher_weights(Path(path), experiment, base=base)
    from kmm_jax.generation.beginning import GeneratorWeights

    return GeneratorWeights(Path(path), model, base=base, task=experiment.task, tell=tell)


def _window(text: str) -> tuple[int, int]:
    from kmm_jax.errors import ConfigError

    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise ConfigError(f"--profile takes FIRST:LAST, two steps such as 100:105, got {text!r}")
    return int(first), int(last)


def _dry_run(experiment: Any, processes: Processes | None, initial: Beginning | None) -> int:
    """What would run. Of several processes each answers for itself and none joins the others.

    Weights to begin with are read, so that what does not fit shows here.
    """
    import jax

    from kmm_jax.training import setup, sharding
    from kmm_jax.training.beginning import OF_WEIGHTS
    from kmm_jax.training.dump import dump

    print(dump(experiment), end="")
    count = 1 if processes is None else processes.count
    devices = jax.local_device_count()
    mesh = sharding.abstract_mesh(experiment.mesh, count * devices, whole=count > 1)
    setup.check_batch(experiment, mesh)
    prepared = setup.prepare(
        experiment, mesh, examples_per_epoch=examples_in_epoch(experiment), vocabulary=None
    )
    print("\n" + setup.describe(experiment, prepared), end="")
    if initial is not None:
        own = experiment.tokenizer == OF_WEIGHTS
        initial.params(initial.tokenizer() if own else experiment.tokenizer)
    kind = jax.local_devices()[0].device_kind
    print(f"devices: {devices} x {kind}" + (f" in each of {count} processes" if count > 1 else ""))
    if processes is not None:
        rows = experiment.global_batch_size // count
        first = processes.index * rows
        print(f"{processes}: rows {first} to {first + rows - 1} of each global batch")
    return 0


def examples_in_epoch(experiment: Any) -> int:
    """Rows in an epoch; the sources are opened only where something is given in epochs."""
    from kmm_jax.data.sources import open_source
    from kmm_jax.training.duration import parse

    lengths = (experiment.duration, experiment.optimizer.warmup)
    if all(parse(length).unit != "epochs" for length in lengths):
        return 1
    return sum(len(open_source(source.url)) for source in experiment.data.sources)
