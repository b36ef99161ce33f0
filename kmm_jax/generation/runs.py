"""Runs of this library's generators, as models in use and as weights to begin another run with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import SingleDeviceSharding

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.generation.schedulers.config import DPMSolver, SchedulerConfig, to_file
from kmm_jax.interop.diffusers.folder import DType, Published
from kmm_jax.interop.diffusers.opening import open_model, refuse_base
from kmm_jax.models.diffusion.autoencoder import Autoencoder
from kmm_jax.models.diffusion.config import VAEConfig
from kmm_jax.models.diffusion.modeling import abstract
from kmm_jax.models.keys import abstract_module
from kmm_jax.tasks.autoencoder import AutoencoderTask, pixels
from kmm_jax.tasks.diffusion import DiffusionTask
from kmm_jax.text.adopted import padded_with
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training import dump, run_directory
from kmm_jax.training.checkpoint import Weights, restore_params


def is_run(path: Path) -> bool:
    """Whether this is a run directory."""
    return (path / "checkpoints").is_dir() and (path / "config.json").is_file()


def task_of(run: Path) -> Any:
    """The task of a run, built from its configuration.

    Raises:
        DataError, ConfigError: no run, or one whose task is not of this version.
    """
    try:
        return dump.from_json(run_directory.read_config(run)["experiment"]["task"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{run}/config.json does not say experiment.task ({error})") from error
    except ConfigError as error:
        raise ConfigError(f"{run}/config.json: experiment.task: {error}") from error


def restored(run: Path, module: Any, *, weights: Weights | None = None) -> dict[str, Any]:
    """The parameters of a run for a module of shapes, on the host; its average where it has one."""
    place = SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        nnx.to_pure_dict(nnx.as_pure(nnx.state(module))),
    )
    params, _ = restore_params(run, shapes, weights=weights)
    return dict(jax.device_get(params))


def published_run(run: str | os.PathLike[str], *, weights: Weights | None = None) -> Published:
    """What a run of ``DiffusionTask`` trained, as a model that can be used or written.

    Raises:
        ConfigError: a run of another task.
        DataError: no checkpoint.
    """
    run = Path(run)
    task = task_of(run)
    if not isinstance(task, DiffusionTask):
        raise ConfigError(
            f"{run} is a run of {type(task).__name__}, which makes no pictures from texts"
        )
    scheduler = SchedulerConfig(noise=task.schedule, sampler=DPMSolver())
    return Published(
        config=task.model,
        params=restored(run, abstract(task.model), weights=weights),
        tokenizers=tokenizers_of(task, Tokenizer.load(run / "tokenizer")),
        scheduler=to_file(scheduler),
        zero_empty_negative=task.zero_dropped,
    )


def model_at(
    path: Path,
    *,
    base: Path | None = None,
    dtype: DType = "float32",
    variant: str | None = None,
) -> Published:
    """A model that was published, in a folder or a file, or what a run of ``DiffusionTask`` made.

    Args:
        base, variant: as ``open_model`` takes them.
        dtype: of the parameters and the computation.

    Raises:
        UserError, DataError: no such model.
    """
    if not is_run(path):
        return open_model(path, base=base, dtype=dtype, variant=variant)
    refuse_base(path, base)
    return in_dtype(published_run(path), dtype)


def tokenizers_of(task: DiffusionTask, tokenizer: Tokenizer) -> tuple[Tokenizer, ...]:
    """A tokenizer for each text encoder, from the one of a run."""
    if len(task.model.texts) == 1:
        return (tokenizer,)
    return tokenizer, padded_with(tokenizer, task.second_pad_id)


def in_dtype(model: Published, dtype: DType) -> Published:
    """The model with parameters and computation in another dtype."""
    config = model.config
    return dataclasses.replace(
        model,
        config=dataclasses.replace(
            config,
            texts=tuple(dataclasses.replace(text, dtype=dtype) for text in config.texts),
            unet=dataclasses.replace(config.unet, dtype=dtype),
            vae=dataclasses.replace(config.vae, dtype=dtype),
        ),
        params=jax.tree.map(lambda leaf: leaf.astype(dtype), model.params),
    )


def autoencoder_run(run: str | os.PathLike[str]) -> tuple[VAEConfig, dict[str, Any]]:
    """The autoencoder that a run of ``AutoencoderTask`` trained.

    Raises:
        ConfigError: a run of another task.
        DataError: no checkpoint.
    """
    run = Path(run)
    task = task_of(run)
    if not isinstance(task, AutoencoderTask):
        raise ConfigError(f"{run} is a run of {type(task).__name__}, not of an autoencoder")
    module = abstract_module(lambda rngs: Autoencoder(task.model, rngs=rngs))
    return task.model, restored(run, module)


def with_measured_scaling(
    config: VAEConfig, params: Any, images: Iterable[np.ndarray]
) -> VAEConfig:
    """The configuration whose scaled latents of ``images`` (B, H, W, 3) uint8 have unit deviation.

    As the published scaling was found (arXiv 2112.10752, appendix G), but of all latents about
    their common mean, which becomes the shift.
    """
    module = abstract_module(lambda rngs: Autoencoder(config, rngs=rngs))
    graphdef = nnx.graphdef(module)

    @jax.jit
    def sums(params: Any, image_BHW3: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = nnx.merge(graphdef, params).posterior(pixels(image_BHW3)).mean
        return mean.mean(), jnp.square(mean).mean()

    found = np.asarray([sums(params, jnp.asarray(each)) for each in images], np.float64)
    mean, square = found.mean(axis=0)
    deviation = float(np.sqrt(square - mean**2))
    return dataclasses.replace(config, scaling=1.0 / deviation, shift=float(mean))
