"""What a family of weights is: how they are known, what model they are, how their names match."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.interop.names import Rule
from kmm_jax.interop.weights import Weights
from kmm_jax.models.clip.config import CLIPConfig, TextTowerConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.transformer import ACTIVATIONS, Activation
from kmm_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hints:
    """What a person says of weights that do not say it themselves.

    Attributes:
        activation: of all FFNs but XLM-RoBERTa's; None for what the files beside the weights say.
        heads: of the image tower; None likewise.
        length: tokens of a text, where the weights leave it open; None likewise.
        image: the CLIP whose images a text tower alone goes with.
        dtype: of the computation.
    """

    activation: Activation | None = None
    heads: int | None = None
    length: int | None = None
    image: CLIPConfig | None = None
    dtype: str = "float32"


FOLDER = "{folder}"
"""In what ``Family.files`` gives: the folder they are written to, where a library wants a path."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Weights of one origin.

    Attributes:
        name: as the command line has it.
        title: for people.
        recognises: whether these are of this family, by their names and files.
        config: the model they are.
        rules: of such a model, which tensor is which parameter.
        ignored: a regular expression of names that hold nothing to keep.
        files: the JSON files that another library wants beside exported weights, by name.
        refuses: why a model cannot be exported so, or None.
        weights_name: of the exported file, without its suffix.
        constants: tensors the other library wants besides, which no parameter here holds.
        lower_case: the model's texts are lower-cased before its tokenizer.
        text_alone: these are a text tower, with or without its projection, and ``rules`` are of
            that; ``config`` finds the CLIP whose images it goes with in ``Hints.image``.
    """

    name: str
    title: str
    recognises: Callable[[Weights], bool]
    config: Callable[[Weights, Hints], ModelConfig]
    rules: Callable[[Any], list[Rule]]
    ignored: str = ""
    files: Callable[[Any, Tokenizer], Mapping[str, Any]] | None = None
    refuses: Callable[[ModelConfig], str | None] = lambda config: None
    weights_name: str = "model"
    constants: Callable[[Any], Mapping[str, Any]] = lambda config: {}
    lower_case: bool = False
    text_alone: bool = False


def activation(name: str) -> Activation:
    """An activation by its name in Hugging Face's configurations.

    Raises:
        UserError: one that no model here has.
    """
    known = {**{each: each for each in ACTIVATIONS}, "gelu_pytorch_tanh": "gelu_tanh"}
    if name not in known:
        raise UserError(f"no activation {name!r} here; there are {', '.join(known)}")
    return known[name]  # type: ignore[return-value]


def other_text(config: CLIPConfig) -> str | None:
    """Why a layout with a causal text tower cannot hold a model; None where it has one."""
    if isinstance(config.text, TextTowerConfig):
        return None
    return (
        "its texts go through an XLM-RoBERTa, which open-clip-xlm-roberta holds (and m-clip and "
        "xlm-roberta without the images)"
    )


def side(positions: int, *, extra: int) -> int:
    """Patches along a side, of the number of positions.

    Raises:
        UserError: they are no square.
    """
    number = round((positions - extra) ** 0.5)
    if number**2 != positions - extra:
        raise UserError(f"{positions} positions are no square of patches and {extra} more")
    return number
