"""Weights of another library to a model of this one, and back."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.files import atomic_directory, refuse_other, write_json
from kmm_jax.interop import names
from kmm_jax.interop.families import FAMILIES, family, recognise
from kmm_jax.interop.families.base import FOLDER, Family, Hints
from kmm_jax.interop.joined import Images, fresh_projection, images_of, text_shapes
from kmm_jax.interop.names import Rule
from kmm_jax.interop.native import Exported, flatten, parameter_shapes, unflatten
from kmm_jax.interop.weights import Weights, open_weights, write_weights
from kmm_jax.models.clip.config import CLIPConfig, TextTowerConfig, XLMRobertaConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.text.adopted import adopt, swapped
from kmm_jax.text.tokenizer import Tokenizer

_MARKER = "kmm_jax_export.json"


def import_weights(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    image: str | Path | None = None,
    hints: Hints | None = None,
) -> tuple[Exported, Family]:
    """A model of this library from another's weights, and whose they were.

    Args:
        path: a safetensors file, an index of several, or a folder of either with its JSON files.
        tokenizer: where the weights' tokenizer is; by default beside them.
        image: where they are a text tower alone, the weights of the CLIP whose image tower, logit
            scale and preprocessing it goes with. A tower without a projection gets a fresh one.
        hints: what the files do not say.

    Raises:
        UserError: pickles, weights of an unknown family, a missing tokenizer, or one of another
            size; no ``image`` where one is needed, or one of another space.
        DataError: tensors are missing, left over or of another shape, or a file is damaged.
    """
    hints = hints or Hints()
    kind, weights = recognise(open_weights(path))
    beside = _images_for(kind, path, image, hints)
    if beside is not None:
        hints = dataclasses.replace(hints, image=beside.config)
    config = kind.config(weights, hints)
    if beside is not None and config.embedding != beside.config.embedding:
        raise UserError(
            f"{path} gives vectors of {config.embedding} numbers for texts, and {image} of "
            f"{beside.config.embedding} for images: they do not meet in one space. The name of an "
            "M-CLIP says for which CLIP it was trained"
        )
    given = Path(tokenizer) if tokenizer is not None else weights.folder
    words = Tokenizer(adopt(given, lower_case=kind.lower_case))
    _check_tokenizer(config, words, f"the tokenizer {given}", path)
    rules = kind.rules(config)
    if beside is None:
        params = names.taken(rules, weights, parameter_shapes(config), ignored=kind.ignored)
    else:
        params = _joined(config, rules, weights, kind.ignored, beside)
    exported = Exported(config=config, params=unflatten(params), tokenizer=words, styled=False)
    return exported, kind


def export_weights(
    folder: str | Path, exported: Exported, of: str, *, dtype: str = "float32"
) -> list[Path]:
    """Write a model as another library reads it; returns the files with tensors.

    Args:
        of: the family's name, one of ``exportable``.
        dtype: of the tensors.

    Raises:
        UserError: the family cannot hold this model, or the folder holds something else.
    """
    folder, kind = Path(folder), family(of)
    if kind.files is None:
        raise UserError(f"nothing reads {kind.title} but its own code; there are {exportable()}")
    if reason := kind.refuses(exported.config):
        raise UserError(f"{kind.title} cannot hold this model: {reason}")
    refuse_other(folder, lambda old: (old / _MARKER).is_file(), "export of this library")
    exported = _numbered_for(kind, exported)
    config = exported.config
    with atomic_directory(folder) as temporary:
        exported.tokenizer.save(temporary)
        for name, values in kind.files(config, exported.tokenizer).items():
            write_json(temporary / name, _placed(values, str(folder.resolve())))
        write_json(temporary / _MARKER, {"family": kind.name, "model": exported.hash})
        tensors = names.put(kind.rules(config), flatten(exported.params), dtype=dtype)
        written = write_weights(
            temporary,
            itertools.chain(tensors, kind.constants(config).items()),
            name=kind.weights_name,
        )
    return [folder / file.name for file in written]


def _check_tokenizer(config: ModelConfig, words: Tokenizer, named: str, path: str | Path) -> None:
    """Refuse a tokenizer whose ids are not those the weights were trained with."""
    apart = "they do not belong together"
    if words.vocab_size > config.text.vocabulary:
        raise UserError(
            f"{named} has {words.vocab_size} tokens, the weights {path} have room for "
            f"{config.text.vocabulary}: {apart}"
        )
    text = config.text
    if isinstance(text, TextTowerConfig) and text.pooling == "eos" and text.eos_id != words.eos_id:
        raise UserError(
            f"{path} reads a text at the token {text.eos_id}, and {named} ends texts with "
            f"{words.eos_id}: {apart}"
        )
    if isinstance(text, XLMRobertaConfig) and text.pad_id != words.pad_id:
        raise UserError(
            f"{path} takes the token {text.pad_id} for padding, and {named} fills texts up with "
            f"{words.pad_id}: {apart}"
        )


def _images_for(
    kind: Family, path: str | Path, image: str | Path | None, hints: Hints
) -> Images | None:
    """The images that go with a text tower alone; None where the weights have their own."""
    if not kind.text_alone:
        if image is not None:
            raise UserError(f"{path} is of {kind.title}, with an image tower: leave --image out")
        return None
    if image is None:
        raise UserError(
            f"{path} is of {kind.title}: a text tower alone. Give --image, the weights of the CLIP "
            "whose images its texts are to meet"
        )
    return images_of(image, hints)


def _joined(
    config: ModelConfig, rules: Sequence[Rule], weights: Weights, ignored: str, beside: Images
) -> dict[str, np.ndarray]:
    """All parameters of a text tower alone with the images beside it."""
    assert isinstance(config, CLIPConfig)  # nothing else has towers to join
    covered = {ours for rule in rules for ours in rule.ours}
    shapes = text_shapes(config)
    held = {name: shape for name, shape in shapes.items() if name in covered}
    params = names.taken(rules, weights, held, ignored=ignored)
    if held.keys() != shapes.keys():
        params |= fresh_projection(config)
    return {**params, **beside.params}


def _placed(values: Any, folder: str) -> Any:
    """JSON values with the folder's path where they ask for it."""
    if isinstance(values, dict):
        return {name: _placed(value, folder) for name, value in values.items()}
    return folder if values == FOLDER else values


def exportable() -> str:
    """The families that another library reads, for people."""
    return ", ".join(name for name, each in FAMILIES.items() if each.files is not None)


def _numbered_for(kind: Family, exported: Exported) -> Exported:
    """The model with ``[EOS]`` as its last token, where the other library reads at the largest id.

    transformers takes ``eos_token_id`` 2, which is ours, for a sign of its old models, and reads
    those at the largest id of a text.
    """
    config = exported.config
    if not (
        kind.name == "hf-clip"
        and isinstance(config, CLIPConfig)
        and isinstance(config.text, TextTowerConfig)
        and config.text.pooling == "eos"
        and config.text.eos_id == 2
    ):
        return exported
    last = config.text.vocabulary - 1
    words = swapped(exported.tokenizer, exported.tokenizer.eos_id, last)
    flat = flatten(exported.params)
    rows = np.array(flat["text.embedding.tokens.embedding"])
    rows[[config.text.eos_id, last]] = rows[[last, config.text.eos_id]]
    flat["text.embedding.tokens.embedding"] = rows
    text = dataclasses.replace(config.text, eos_id=last)
    params: dict[str, Any] = unflatten(flat)
    return dataclasses.replace(
        exported,
        config=dataclasses.replace(config, text=text),
        params=params,
        tokenizer=words,
    )
