"""From a path to a model in use: a run directory, an exported folder, or other weights."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TypeGuard

import jax
from flax import nnx
from jax.sharding import SingleDeviceSharding

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.files import read_json
from kmm_jax.inference.model import Model
from kmm_jax.interop import native
from kmm_jax.interop.conversion import import_weights
from kmm_jax.interop.families.base import Family
from kmm_jax.interop.native import Exported
from kmm_jax.models import registry
from kmm_jax.models.keys import abstract_module
from kmm_jax.models.oner.config import OneRConfig
from kmm_jax.models.slip.config import SLIPConfig
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training import dump, run_directory, store
from kmm_jax.training.checkpoint import Weights, restore_params
from kmm_jax.training.lora import LoRA, merged_for_use, with_factors
from kmm_jax.training.run_place import location

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_EXPORTED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def load_model(
    path: str | os.PathLike[str], *, step: int | None = None, weights: Weights | None = None
) -> Model:
    """See ``kmm_jax.load``."""
    path = location(path)
    exported = in_use(read(path, step=step, weights=weights))
    return Model(
        exported.config,
        exported.params,
        exported.tokenizer,
        styled=exported.styled,
        hash=exported.hash,
        path=path,
        step=exported.step,
    )


def read(
    path: str | os.PathLike[str], *, step: int | None = None, weights: Weights | None = None
) -> Exported:
    """Configuration, parameters (NumPy) and tokenizer of a run directory or an exported folder.

    Another library's folder or file of safetensors is taken as well, if ``interop`` knows it.

    Args:
        step: of a run, the checkpoint to take; the newest whole one by default.
        weights: of a run, ``"params"`` or ``"ema"``, their average. By default the average where
            the run kept one, but the student where the average was its teacher.

    Raises:
        DataError: neither is there, or it is damaged.
        ConfigError: the model's configuration is of another version or no model of this library.
        ConnectionError: the URL stays out of reach.
    """
    path = location(path)
    if of_another_library(path):
        _refuse_choice(path, step=step, weights=weights)
        return imported(path)[0]
    if isinstance(path, Path):
        trained = (path / "checkpoints").is_dir() and not (path / "model.safetensors").exists()
        return _read(path, path, trained=trained, step=step, weights=weights)
    names = [name for name, _ in store.listing(path)]
    if "config.json" not in names:
        raise DataError(f"{path} holds neither a run nor an exported model: no config.json")
    trained = "checkpoints" in names and "model.safetensors" not in names
    with tempfile.TemporaryDirectory(prefix="kmm_jax-") as folder:
        wanted = ("config.json",) if trained else _EXPORTED
        store.fetch(path, Path(folder), wanted.__contains__)
        return _read(path, Path(folder), trained=trained, step=step, weights=weights)


def of_another_library(path: Path | str) -> TypeGuard[Path]:
    """Whether another library's weights are at a path of this machine: a file, or a folder of some.

    Pickles count, so that they are refused as such, with what to do.
    """
    if not isinstance(path, Path):
        return False
    if path.is_file():
        return True
    about = read_json(path / "config.json")
    ours = isinstance(about, dict) and str(about.get("format", "")).startswith("kmm_jax")
    if ours or not path.is_dir() or (path / "checkpoints").is_dir():
        return False
    return any(file.suffix in _WEIGHTS for file in path.iterdir())


def imported(path: Path) -> tuple[Exported, Family]:
    """Another library's weights as a model of this one, and whose they are.

    Raises:
        UserError, DataError: as ``interop.conversion.import_weights`` raises them.
    """
    try:
        return import_weights(path)
    except UserError as error:
        raise type(error)(
            f"{error}. What the files do not say can be said once, where they are imported: "
            f"python -m tools.import_checkpoint {path} --output FOLDER"
        ) from error


def in_use(exported: Exported) -> Exported:
    """What of a model is used: of a SLIP the CLIP, whose tower its head helped to train."""
    if not isinstance(exported.config, SLIPConfig):
        return exported
    config, params = exported.config.clip, exported.params["clip"]
    return dataclasses.replace(exported, config=config, params=params)


def _read(
    path: Path | str, folder: Path, *, trained: bool, step: int | None, weights: Weights | None
) -> Exported:
    """What is at ``path``; its files but for checkpoints are in ``folder``."""
    if not trained:
        _refuse_choice(path, step=step, weights=weights)
        return native.load(folder)
    config, styled, taught, lora = _trained(folder)
    if weights is None and taught:
        weights = "params"
    if weights == "ema" and taught and isinstance(config, OneRConfig):
        # A teacher runs no predictor, and its statistics there are none.
        head = dataclasses.replace(config.head, scored="projector")
        config = dataclasses.replace(config, head=head)
    params, found = restore_params(path, _abstract(config, lora), step=step, weights=weights)
    params = jax.device_get(params)
    return Exported(
        config=config,
        params=params if lora is None else merged_for_use(params, lora),
        tokenizer=Tokenizer.load(folder / "tokenizer"),
        styled=styled,
        step=found,
    )


def _refuse_choice(path: Path | str, *, step: int | None, weights: Weights | None) -> None:
    for name, value in (("steps", step), ("weights", weights)):
        if value is not None:
            raise DataError(f"{path} is an exported model, which has no {name} to choose from")


def _trained(run_dir: Path) -> tuple[registry.ModelConfig, bool, bool, LoRA | None]:
    """A run's model configuration, whether it had style tokens and a teacher, and its LoRA.

    The rest of the experiment is not rebuilt: its evaluators and task may be classes of the config
    file, and its optimizer may have fields of another version, which using the model needs not.
    """
    file = run_dir / "config.json"
    try:
        experiment = run_directory.read_config(run_dir)["experiment"]
        model, styled = experiment["task"]["model"], bool(experiment["data"]["styled"])
        taught, adapted = experiment.get("teacher") is not None, experiment.get("lora")
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{file} does not say experiment.task.model and experiment.data.styled ({error}); only "
            "runs of this library's models can be loaded"
        ) from error
    try:
        config = dump.from_json(model)
    except ConfigError as error:
        raise ConfigError(f"{file}: experiment.task.model: {error}") from error
    try:
        lora = dump.from_json(adapted)
    except ConfigError as error:
        raise ConfigError(f"{file}: experiment.lora: {error}") from error
    if not isinstance(config, registry.ModelConfig):
        known = ", ".join(kind.__name__ for kind in registry.ModelConfig.__args__)
        raise ConfigError(f"{file}: experiment.task.model is no model configuration ({known})")
    return config, styled, taught, lora


def _abstract(config: registry.ModelConfig, lora: LoRA | None) -> dict[str, object]:
    """Shapes of a run's parameters, on this process's first device."""
    module = abstract_module(lambda rngs: registry.build(config, rngs=rngs))
    place = SingleDeviceSharding(jax.local_devices()[0])
    shapes = nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))
    if lora is not None:
        shapes = jax.eval_shape(lambda x: with_factors(x, lora, jax.random.key(0)), shapes)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)
