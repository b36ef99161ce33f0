"""The forms in which text encoders and their tokenizers lie in a folder of diffusers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kmm_jax.interop.diffusers import configs, names, resampled
from kmm_jax.interop.names import Rule
from kmm_jax.interop.weights import Weights
from kmm_jax.models.diffusion.config import (
    AnyTextConfig,
    ResampledTextEncoderConfig,
    TextEncoderConfig,
)
from kmm_jax.text.adopted import adopt, closed
from kmm_jax.text.clip_bpe import save_clip_folder
from kmm_jax.text.tokenizer import Tokenizer

Entry = tuple[str, str]
"""Library and class of a part, as ``model_index.json`` has them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextForm:
    """How one kind of text encoder is published.

    Attributes:
        named: its tensors by the names that ``rules`` have.
        config: the configuration of these tensors and a ``config.json``.
        rules: which tensor is which parameter.
        about: the ``config.json`` for its readers.
        encoder, tokenizer: what reads either there.
        code: a file that its reader runs, in the folder beside the weights.
        read_tokenizer, save_tokenizer: a folder to a tokenizer and, for texts of a length, back.
    """

    named: Callable[[Weights], Weights]
    config: Callable[..., Any]
    rules: Callable[[Any], list[Rule]]
    about: Callable[[Any, Tokenizer], Mapping[str, Any]]
    encoder: Callable[[Any], Entry]
    tokenizer: Entry
    code: Path | None = None
    read_tokenizer: Callable[[Path], Tokenizer]
    save_tokenizer: Callable[[Tokenizer, Path, int], None]


def _clip_config(
    weights: Weights, about: Mapping[str, Any], *, dtype: str, where: str
) -> TextEncoderConfig:
    return configs.text_config(
        about,
        width=weights.shape(f"{names.PREFIX}embeddings.token_embedding.weight")[1],
        dtype=dtype,
        projects="text_projection.weight" in weights,
    )


_CLIP = TextForm(
    named=names.with_prefix,
    config=_clip_config,
    rules=names.text_encoder_rules,
    about=lambda config, tokenizer: configs.text_json(
        config, bos_id=tokenizer.bos_id, pad_id=tokenizer.pad_id
    ),
    encoder=lambda config: ("transformers", configs.text_class(config)),
    tokenizer=("transformers", "CLIPTokenizer"),
    read_tokenizer=lambda folder: Tokenizer(adopt(folder)),
    save_tokenizer=lambda tokenizer, folder, length: save_clip_folder(
        tokenizer, folder, length=length
    ),
)

_RESAMPLED = TextForm(
    named=lambda weights: weights,
    config=resampled.config,
    rules=resampled.rules,
    about=resampled.about,
    encoder=lambda config: (resampled.MODULE, resampled.CLASS),
    tokenizer=("transformers", "PreTrainedTokenizerFast"),
    code=resampled.CODE,
    read_tokenizer=Tokenizer.load,
    # transformers puts around a text what the file says, where our tokenizers need no saying.
    save_tokenizer=lambda tokenizer, folder, length: closed(tokenizer).save(folder, length=length),
)

_OF_CONFIG: dict[type, TextForm] = {
    TextEncoderConfig: _CLIP,
    ResampledTextEncoderConfig: _RESAMPLED,
}
_OF_MODEL_TYPE = {resampled.MODEL_TYPE: _RESAMPLED}


def form_of(config: AnyTextConfig) -> TextForm:
    """The form of a text encoder."""
    return _OF_CONFIG[type(config)]


def form_in(about: Mapping[str, Any]) -> TextForm:
    """The form of a published one, by its ``config.json``: a CLIP's where that says no other."""
    return _OF_MODEL_TYPE.get(str(about.get("model_type")), _CLIP)
