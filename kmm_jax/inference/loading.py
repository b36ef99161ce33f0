"""From a path to a model in use: a run directory or an exported folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import jax
from flax import nnx
from jax.sharding import SingleDeviceSharding

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.inference.model import Model
from kmm_jax.interop import native
from kmm_jax.interop.native import Exported
from kmm_jax.models import registry
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training import dump, run_directory, store
from kmm_jax.training.checkpoint import restore_params
from kmm_jax.training.run_place import location

_EXPORTED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def load_model(path: str | os.PathLike[str], *, step: int | None = None) -> Model:
    """See ``kmm_jax.load``."""
    path = location(path)
    exported = read(path, step=step)
    return Model(
        exported.config,
        exported.params,
        exported.tokenizer,
        styled=exported.styled,
        hash=exported.hash,
        path=path,
        step=exported.step,
    )


def read(path: str | os.PathLike[str], *, step: int | None = None) -> Exported:
    """Configuration, parameters (NumPy) and tokenizer of a run directory or an exported folder.

    Of a run, the moving average of the parameters is taken where it kept one.

    Raises:
        DataError: neither is there, or it is damaged.
        ConfigError: the model's configuration is of another version or no model of this library.
        ConnectionError: the URL stays out of reach.
    """
    path = location(path)
    if isinstance(path, Path):
        trained = (path / "checkpoints").is_dir() and not (path / "model.safetensors").exists()
        return _read(path, path, trained=trained, step=step)
    names = [name for name, _ in store.listing(path)]
    if "config.json" not in names:
        raise DataError(f"{path} holds neither a run nor an exported model: no config.json")
    trained = "checkpoints" in names and "model.safetensors" not in names
    with tempfile.TemporaryDirectory(prefix="kmm_jax-") as folder:
        wanted = ("config.json",) if trained else _EXPORTED
        store.fetch(path, Path(folder), wanted.__contains__)
        return _read(path, Path(folder), trained=trained, step=step)


def _read(path: Path | str, folder: Path, *, trained: bool, step: int | None) -> Exported:
    """What is at ``path``; its files but for checkpoints are in ``folder``."""
    if not trained:
        if step is not None:
            raise DataError(f"{path} is an exported model, which has no steps to choose from")
        return native.load(folder)
    config, styled = _trained(folder)
    params, found = restore_params(path, _abstract(config), step=step)
    return Exported(
        config=config,
        params=jax.device_get(params),
        tokenizer=Tokenizer.load(folder / "tokenizer"),
        styled=styled,
        step=found,
    )


def _trained(run_dir: Path) -> tuple[registry.ModelConfig, bool]:
    """A run's model configuration, and whether it was trained with style tokens.

    The rest of the experiment is not rebuilt: its evaluators and task may be classes of the config
    file, and its optimizer may have fields of another version, which using the model needs not.
    """
    file = run_dir / "config.json"
    try:
        experiment = run_directory.read_config(run_dir)["experiment"]
        model, styled = experiment["task"]["model"], bool(experiment["data"]["styled"])
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{file} does not say experiment.task.model and experiment.data.styled ({error}); only "
            "runs of this library's models can be loaded"
        ) from error
    try:
        config = dump.from_json(model)
    except ConfigError as error:
        raise ConfigError(f"{file}: experiment.task.model: {error}") from error
    if not isinstance(config, registry.ModelConfig):
        known = ", ".join(kind.__name__ for kind in registry.ModelConfig.__args__)
        raise ConfigError(f"{file}: experiment.task.model is no model configuration ({known})")
    return config, styled


def _abstract(config: registry.ModelConfig) -> dict[str, object]:
    """Shapes of a model's parameters, on this process's first device."""
    module = nnx.eval_shape(lambda: registry.build(config, rngs=nnx.Rngs(0)))
    place = SingleDeviceSharding(jax.local_devices()[0])
    shapes = nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)
