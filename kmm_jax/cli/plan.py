"""``kmm plan``: what a run needs on so many chips, before any is rented."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from typing import Any

from kmm_jax.cli.arguments import add_config


def add(commands: Any) -> None:
    """Add ``kmm plan``."""
    command = commands.add_parser(
        "plan",
        help="memory, network, step time and days of a config on so many accelerators",
        description="Compile a config's real training step for accelerators that need not be "
        "there, and say what it would need: no parameter is allocated.",
    )
    add_config(command, name="coca/large", overrides="as for kmm train")
    command.add_argument("--chips", type=int, required=True, metavar="N", help="how many")
    command.add_argument(
        "--chip", required=True, metavar="NAME", help="a100, h100, h200, v5e, v5p or v6e"
    )
    command.add_argument(
        "--mesh",
        metavar="data=D,fsdp=F,tensor=T",
        help="another mesh than the config's; what is not named is 1, or what is left (data)",
    )
    command.add_argument("--json", action="store_true", help="the same as JSON")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plan, and print; 0 also where nothing fits."""
    # Read when JAX is imported. What the partitioner remarks on, the plan shows as bytes sent.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from kmm_jax.errors import ConfigError
    from kmm_jax.training.chips import chip_named

    chip = chip_named(arguments.chip)
    if arguments.chips < 1:
        raise ConfigError(f"--chips must be at least 1, got {arguments.chips}")
    from kmm_jax.planning.step import fake_devices

    fake_devices(arguments.chips)
    from kmm_jax.planning import report
    from kmm_jax.planning.fit import Fitter
    from kmm_jax.planning.plan import plan
    from kmm_jax.training.config_file import load_experiment

    experiment = load_experiment(arguments.config, arguments.overrides)
    if arguments.mesh is not None:
        mesh = dataclasses.replace(experiment.mesh, **_sizes(arguments.mesh))
        experiment = dataclasses.replace(experiment, mesh=mesh)
    made = plan(experiment, chip, arguments.chips, examples_per_epoch=_examples(experiment))
    fitter = Fitter.of(experiment, chip, made.activations_per_example)
    fit, least = fitter.least_splitting(arguments.chips), fitter.fewest_chips()
    if arguments.json:
        print(json.dumps(report.as_json(made, fit, least), indent=2))
    else:
        print(report.as_text(made, fit, least), end="")
    return 0


def _examples(experiment: Any) -> int:
    from kmm_jax.cli.train import examples_in_epoch
    from kmm_jax.errors import DataError

    try:
        return examples_in_epoch(experiment)
    except DataError as error:
        raise DataError(
            f"{error}. The config counts in epochs, so its data are needed; without them give "
            "duration='100000 steps' optimizer.warmup='2%'"
        ) from error


def _sizes(text: str) -> dict[str, int]:
    from kmm_jax.errors import ConfigError, nearest
    from kmm_jax.training.sharding import AXES

    sizes = {"data": -1, "fsdp": 1, "tensor": 1}
    for part in text.split(","):
        axis, _, size = part.partition("=")
        if axis not in AXES:
            raise ConfigError(f"--mesh: no axis {axis!r}{nearest(axis, AXES)}; {', '.join(AXES)}")
        if not size.isdecimal() or int(size) < 1:
            raise ConfigError(f"--mesh: {part!r} is not AXIS=SIZE, such as fsdp=8")
        sizes[axis] = int(size)
    return sizes
