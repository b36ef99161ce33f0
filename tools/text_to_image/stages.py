"""The generator, trained once: an autoencoder, then a text encoder and a UNet over it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kmm_jax.data.config import SourceConfig
from kmm_jax.generation.beginning import GeneratorWeights
from kmm_jax.generation.runs import published_run
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from tools.generator_runs import Scale, autoencoder, trained
from tools.text_to_image.data import World

SIZE = 32
"""Pixels of a picture along a side, as the configurations have them."""


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
    experiment = load_experiment("diffusion/products_autoencoder")
    experiment = _here(experiment, world, scale.autoencoder_steps)
    return autoencoder(experiment, work / "runs" / experiment.name, work / "autoencoder")


def _here(experiment: Experiment, world: World, steps: int) -> Experiment:
    sources = tuple(SourceConfig(url=url, weight=weight) for url, weight in world.sources())
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(experiment.data, sources=sources),
        tokenizer=str(world.folder / "english"),
        duration=f"{steps} steps",
    )
