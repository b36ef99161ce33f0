"""Weights of another library to a model of this one, and back."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.files import atomic_directory, refuse_other, write_json
from kmm_jax.interop import names
from kmm_jax.interop.families import FAMILIES, family, recognise
from kmm_jax.interop.families.base import Family, Hints
from kmm_jax.interop.native import Exported, flatten, parameter_shapes, unflatten
from kmm_jax.interop.weights import open_weights, write_weights
from kmm_jax.models.clip.config import CLIPConfig
from kmm_jax.text.adopted import adopt, swapped
from kmm_jax.text.tokenizer import Tokenizer

_MARKER = "kmm_jax_export.json"


def import_weights(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    hints: Hints | None = None,
) -> tuple[Exported, Family]:
    """A model of this library from another's weights, and whose they were.

    Args:
        path: a safetensors file, an index of several, or a folder of either with its JSON files.
        tokenizer: where the weights' tokenizer is; by default beside them.
        hints: what the files do not say.

    Raises:
        UserError: pickles, weights of an unknown family, a missing tokenizer, or one of another
            size.
        DataError: tensors are missing, left over or of another shape, or a file is damaged.
    """
    hints = hints or Hints()
    kind, weights = recognise(open_weights(path))
    config = kind.config(weights, hints)
    given = Path(tokenizer) if tokenizer is not None else weights.folder
    words = Tokenizer(adopt(given, lower_case=kind.lower_case))
    if words.vocab_size > config.text.vocabulary:
        raise UserError(
            f"the tokenizer {given} has {words.vocab_size} tokens, the weights {path} have room "
            f"for {config.text.vocabulary}: they do not belong together"
        )
    if isinstance(config, CLIPConfig) and config.text.pooling == "eos":
        reads = config.text.eos_id
        if reads != words.eos_id:
            raise UserError(
                f"{path} reads a text at the token {reads}, and the tokenizer {given} ends texts "
                f"with {words.eos_id}: they do not belong together"
            )
    params = names.taken(
        kind.rules(config), weights, parameter_shapes(config), ignored=kind.ignored
    )
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
            write_json(temporary / name, values)
        write_json(temporary / _MARKER, {"family": kind.name, "model": exported.hash})
        tensors = names.put(kind.rules(config), flatten(exported.params), dtype=dtype)
        written = write_weights(
            temporary,
            itertools.chain(tensors, kind.constants(config).items()),
            name=kind.weights_name,
        )
    return [folder / file.name for file in written]


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
