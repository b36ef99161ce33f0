"""Small generators trained from nothing, part by part; what is done is not done again."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.sources import open_source
from kmm_jax.errors import UserError
from kmm_jax.files import atomic_directory, read_json, write_json
from kmm_jax.generation.runs import autoencoder_run, with_measured_scaling
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.loop import train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How long each part is trained."""

    autoencoder_steps: int
    generator_steps: int


def trained(experiment: Experiment, run: Path, *, initial: Any = None) -> None:
    """Train a run to its end, or find that it is.

    Raises:
        UserError: it was stopped.
    """
    if read_json(run / "done.json"):
        return
    result = train(experiment, run, initial=initial)
    if result.end != "finished":
        raise UserError(f"{run} was stopped at step {result.step}; the same command goes on")
    write_json(run / "done.json", {"step": result.step, "metrics": result.metrics})
    print(f"{experiment.name}: {result.step} steps", file=sys.stderr)


def autoencoder(experiment: Experiment, run: Path, folder: Path) -> Path:
    """A folder with ``vae/``, whose scaled latents have unit deviation, made once.

    Raises:
        UserError: training was stopped.
    """
    if (folder / "vae" / "config.json").is_file():
        return folder
    trained(experiment, run)
    config, params = autoencoder_run(run)
    batches = itertools.chain.from_iterable(
        evaluation_batches(open_source(source.url), experiment.data, 64)
        for source in experiment.data.sources
    )
    images = (np.asarray(batch["image"]) for batch in itertools.islice(batches, 40))
    config = with_measured_scaling(config, params, images)
    with atomic_directory(folder) as place:
        folders.write_autoencoder(place / "vae", config, params)
    return folder
