"""The generator, trained once: an autoencoder, then a text encoder and a UNet over it."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.data.config import SourceConfig
from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.sources import open_source
from kmm_jax.errors import UserError
from kmm_jax.files import atomic_directory, read_json, write_json
from kmm_jax.generation.beginning import GeneratorWeights
from kmm_jax.generation.runs import autoencoder_run, published_run, with_measured_scaling
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.loop import train
from tools.text_to_image.data import World

SIZE = 32
"""Pixels of a picture along a side, as the configurations have them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How long each part is trained."""

    autoencoder_steps: int
    generator_steps: int


def generator(world: World, work: Path, scale: Scale) -> Path:
    """A folder of diffusers with the generator that knows English, made once.

    Raises:
        UserError: training was interrupted.
    """
    folder = work / "generator"
    if folders.is_folder(folder):
        return folder
    begin = _autoencoder(world, work, scale)
    config, _ = folders.read_autoencoder(begin / "vae")
    experiment = _here(load_experiment("diffusion/products"), world, scale.generator_steps)
    model = dataclasses.replace(experiment.task.model, vae=config)
    experiment = dataclasses.replace(
        experiment, task=dataclasses.replace(experiment.task, model=model)
    )
    run = work / "runs" / experiment.name
    trained(experiment, run, initial=GeneratorWeights(begin, model))
    folders.write(folder, published_run(run))
    return folder


def _autoencoder(world: World, work: Path, scale: Scale) -> Path:
    """A folder with ``vae/``, whose scaled latents have unit deviation."""
    folder = work / "autoencoder"
    if (folder / "vae" / "config.json").is_file():
        return folder
    experiment = load_experiment("diffusion/products_autoencoder")
    experiment = _here(experiment, world, scale.autoencoder_steps)
    run = work / "runs" / experiment.name
    trained(experiment, run)
    config, params = autoencoder_run(run)
    batches = itertools.chain.from_iterable(
        evaluation_batches(open_source(url), experiment.data, 64)
        for url in [source.url for source in experiment.data.sources]
    )
    images = (np.asarray(batch["image"]) for batch in itertools.islice(batches, 40))
    config = with_measured_scaling(config, params, images)
    with atomic_directory(folder) as place:
        folders.write_autoencoder(place / "vae", config, params)
    return folder


def _here(experiment: Experiment, world: World, steps: int) -> Experiment:
    sources = tuple(SourceConfig(url=url, weight=weight) for url, weight in world.sources())
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(experiment.data, sources=sources),
        tokenizer=str(world.folder / "english"),
        duration=f"{steps} steps",
    )


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
