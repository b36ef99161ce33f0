"""This library's own export: a folder of configuration, safetensors and tokenizer."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import atomic_directory, read_json, refuse_other, write_json
from kmm_jax.interop.weights import save_tensors
from kmm_jax.models import registry
from kmm_jax.models.keys import abstract_module
from kmm_jax.models.registry import ModelConfig
from kmm_jax.text.tokenizer import Tokenizer

FORMAT = "kmm_jax 1"

# Fields of configurations that change how a model is trained and nothing that it puts out.
_TRAINING_ONLY = {"remat"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exported folder holds.

    Attributes:
        params: pure nested dicts of float arrays, as ``nnx.merge`` takes them.
        styled: whether the model was trained with style tokens (Prompt-CoCa).
        step: of the run, at which the parameters were; None where it is not known.
    """

    config: ModelConfig
    params: dict[str, Any]
    tokenizer: Tokenizer
    styled: bool
    step: int | None = None

    @functools.cached_property
    def hash(self) -> str:
        """What identifies a model: SHA-256 over all that its outputs depend on, 16 hex digits.

        That is configuration (but for ``remat``), ``styled``, tokenizer and every parameter. A run
        and its export have the same hash; embeddings and indexes carry it. Fields at their default
        are left out, so that one that comes later changes no model's hash.
        """
        about = {
            "model": {"family": registry.family(self.config), **_outputs_only(self.config)},
            "styled": self.styled,
            "tokenizer": self.tokenizer.fingerprint,
        }
        return _hash(json.dumps(about, sort_keys=True), self.params)


def params_hash(params: Any) -> str:
    """What identifies parameters alone, names and bits of each: SHA-256, 16 hex digits."""
    return _hash("", params)


def _hash(about: str, params: Any) -> str:
    digest = hashlib.sha256(about.encode())
    for name, value in flatten(params).items():
        digest.update(f"{name} {value.shape} {value.dtype}".encode())
        digest.update(np.asarray(value, order="C").tobytes())
    return digest.hexdigest()[:16]


def flatten(params: Any) -> dict[str, np.ndarray]:
    """Nested parameters as ``{"vision.norm.scale": array}``, in name order."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in leaves
    }
    return dict(sorted(named.items()))


def unflatten(named: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``flatten``: names of digits are places in a list, as Flax numbers them."""
    nested: dict[Any, Any] = {}
    for name, value in named.items():
        *folders, last = (int(part) if part.isdecimal() else part for part in name.split("."))
        level = nested
        for folder in folders:
            level = level.setdefault(folder, {})
        level[last] = value
    return nested


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of a model, by its flat name."""
    module = abstract_module(lambda rngs: registry.build(config, rngs=rngs))
    state = nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def save(folder: str | Path, exported: Exported) -> None:
    """Write the folder, whole or not at all, and read it back to compare.

    Raises:
        UserError: the folder holds something else than an exported model, or what was read back
            differs from what was written.
        OSError: no space is left on the disk.
    """
    folder = Path(folder)
    refuse_other(folder, _is_export, "exported model")
    named = flatten(exported.params)
    with atomic_directory(folder) as temporary:
        exported.tokenizer.save(temporary)  # first: it takes no folder that holds more
        save_tensors(temporary / "model.safetensors", named, metadata={"format": FORMAT})
        write_json(
            temporary / "config.json",
            {
                "format": FORMAT,
                "model": registry.to_json(exported.config),
                "styled": exported.styled,
                "step": exported.step,
                "hash": exported.hash,
            },
        )
        again = flatten(load(temporary).params)
        different = [
            name
            for name in named.keys() | again.keys()
            if name not in named
            or name not in again
            or not np.array_equal(named[name], again[name], equal_nan=True)
        ]
        if different:
            raise UserError(
                f"{folder}: {len(different)} tensors read back different: {different[:5]}"
            )


def _is_export(folder: Path) -> bool:
    found = read_json(folder / "config.json")
    return isinstance(found, dict) and found.get("format") == FORMAT


def load(folder: str | Path) -> Exported:
    """Read an exported folder.

    Raises:
        DataError: no such folder, not an export of this library, damaged, or its files are not
            those that were written together.
        UserError: its tokenizer is missing or unreadable.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise DataError(f"{folder} is no exported model: it has no config.json")
    try:
        config = json.loads(config_file.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{config_file} is damaged: {error}; export the model again") from error
    if config.get("format") != FORMAT:
        raise DataError(
            f"{config_file} has format {config.get('format')!r}, not {FORMAT!r}: it is neither "
            "an export of this library nor a run with checkpoints"
        )
    weights = folder / "model.safetensors"
    try:
        named = load_file(weights)
    except FileNotFoundError as error:
        raise DataError(f"{folder} has a config.json but no model.safetensors") from error
    except SafetensorError as error:
        raise DataError(f"{weights} is damaged ({error}); export the model again") from error
    exported = Exported(
        config=registry.from_json(config["model"]),
        params=unflatten(named),
        tokenizer=Tokenizer.load(folder),
        styled=bool(config["styled"]),
        step=config.get("step"),
    )
    if exported.hash != config["hash"]:
        raise DataError(
            f"{folder}: model.safetensors, tokenizer.json and config.json do not belong together: "
            f"hash {exported.hash}, expected {config['hash']}; one of them was changed, or another "
            "version wrote them: export the model again"
        )
    return exported


def _outputs_only(config: Any) -> Any:
    """A configuration as JSON, without fields at their default and those of training alone."""
    if not dataclasses.is_dataclass(config):
        return list(config) if isinstance(config, tuple) else config
    found: dict[str, Any] = {}
    if kind := registry.kind(config):
        found["kind"] = kind
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if field.name not in _TRAINING_ONLY and value != default:
            found[field.name] = _outputs_only(value)
    return found
