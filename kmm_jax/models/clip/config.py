"""The configuration of a CLIP dual encoder and its presets (arXiv 2103.00020, table 20)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from kmm_jax.models.transformer import Activation
from kmm_jax.models.vision import VisionConfig

# OpenAI's image statistics, which every CLIP since has kept.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """A causal Transformer over ``length`` tokens.

    Attributes:
        pooling: ``"eos"`` reads the vector at the first ``eos_id``; ``"argmax"`` at the largest id,
            as OpenAI's vocabulary, where it is the last token, was written for.
    """

    vocabulary: int
    length: int
    width: int
    depth: int
    heads: int
    hidden: int
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-5
    pooling: Literal["eos", "argmax"] = "eos"
    eos_id: int = 2
    remat: str = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class XLMRobertaConfig:
    """XLM-RoBERTa over ``length`` tokens (arXiv 1911.02116): bidirectional, norms after each sum.

    Attributes:
        length: most tokens of a text, its marks included. No parameter depends on it: any number up
            to ``positions - pad_id - 1`` will do.
        positions: rows of the table of positions. The first token of a text stands at ``pad_id``
            + 1, and all padding at ``pad_id``.
        token_types: rows of the table of token types, of which a text alone has the first.
        pad_id: the tokenizer's. Nothing attends to padding, and no pooling reads it.
        pooling: ``"mean"`` of a text's tokens (M-CLIP, open_clip), or its ``"first"`` token.
        projection: to the space of the images: ``"linear"``, ``"biased"`` (linear with a bias:
            M-CLIP), or ``"mlp"`` (two layers without biases, gelu between: open_clip).

    Raises:
        ValueError: ``length`` is more than there are positions for.
    """

    vocabulary: int
    length: int = 77
    width: int
    depth: int
    heads: int
    hidden: int
    positions: int = 514
    token_types: int = 1
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-5
    pad_id: int = 1
    pooling: Literal["mean", "first"] = "mean"
    projection: Literal["linear", "biased", "mlp"] = "linear"
    remat: str = "none"

    def __post_init__(self) -> None:
        most = self.positions - self.pad_id - 1
        if self.length > most:
            raise ValueError(
                f"text.length={self.length}, but {self.positions} positions, counted from "
                f"pad_id + 1 = {self.pad_id + 1}, are enough for {most}"
            )


TextConfig = TextTowerConfig | XLMRobertaConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """Two towers and the dimension of the space they meet in.

    Attributes:
        text: a causal tower, or XLM-RoBERTa for texts of many languages.
        embedding: dimension of the contrastive space.
        temperature: initial value of the learned softmax temperature.
        dtype: of the computation; parameters are float32.
    """

    vision: VisionConfig
    text: TextConfig
    embedding: int
    temperature: float = 0.07
    dtype: str = "bfloat16"


def _vision(
    *,
    patch_size: int,
    width: int,
    depth: int,
    head_width: int = 64,
    image_size: int,
    activation: Activation,
) -> VisionConfig:
    return VisionConfig(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        depth=depth,
        heads=width // head_width,
        hidden=4 * width,
        class_token=True,
        pre_norm=True,
        activation=activation,
        norm_epsilon=1e-5,
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )


def _openai(
    *,
    patch_size: int,
    width: int,
    depth: int,
    text_width: int,
    embedding: int,
    vocabulary: int,
    image_size: int,
    activation: Activation,
) -> CLIPConfig:
    return CLIPConfig(
        vision=_vision(
            patch_size=patch_size,
            width=width,
            depth=depth,
            image_size=image_size,
            activation=activation,
        ),
        text=TextTowerConfig(
            vocabulary=vocabulary,
            length=77,
            width=text_width,
            depth=12,
            heads=text_width // 64,
            hidden=4 * text_width,
            activation=activation,
        ),
        embedding=embedding,
    )


def clip_b32(
    *, vocabulary: int = 49_408, image_size: int = 224, activation: Activation = "gelu"
) -> CLIPConfig:
    """CLIP ViT-B/32: 151.3M parameters with OpenAI's vocabulary."""
    return _openai(
        patch_size=32,
        width=768,
        depth=12,
        text_width=512,
        embedding=512,
        vocabulary=vocabulary,
        image_size=image_size,
        activation=activation,
    )


def clip_b16(
    *, vocabulary: int = 49_408, image_size: int = 224, activation: Activation = "gelu"
) -> CLIPConfig:
    """CLIP ViT-B/16: 149.6M parameters with OpenAI's vocabulary."""
    return _openai(
        patch_size=16,
        width=768,
        depth=12,
        text_width=512,
        embedding=512,
        vocabulary=vocabulary,
        image_size=image_size,
        activation=activation,
    )


def clip_l14(
    *, vocabulary: int = 49_408, image_size: int = 224, activation: Activation = "gelu"
) -> CLIPConfig:
    """CLIP ViT-L/14: 427.6M parameters with OpenAI's vocabulary."""
    return _openai(
        patch_size=14,
        width=1024,
        depth=24,
        text_width=768,
        embedding=768,
        vocabulary=vocabulary,
        image_size=image_size,
        activation=activation,
    )


def _xlm_roberta(
    *, width: int, depth: int, vocabulary: int, length: int, pad_id: int
) -> XLMRobertaConfig:
    return XLMRobertaConfig(
        vocabulary=vocabulary,
        length=length,
        width=width,
        depth=depth,
        heads=width // 64,
        hidden=4 * width,
        pad_id=pad_id,
        projection="mlp",
    )


def clip_xlmr_b32(
    *, vocabulary: int = 250_002, image_size: int = 224, length: int = 77, pad_id: int = 1
) -> CLIPConfig:
    """ViT-B/32 with XLM-RoBERTa Base: open_clip's xlm-roberta-base-ViT-B-32, 366.1M."""
    return CLIPConfig(
        vision=_vision(
            patch_size=32, width=768, depth=12, image_size=image_size, activation="gelu"
        ),
        text=_xlm_roberta(width=768, depth=12, vocabulary=vocabulary, length=length, pad_id=pad_id),
        embedding=512,
    )


def clip_xlmr_h14(
    *, vocabulary: int = 250_002, image_size: int = 224, length: int = 77, pad_id: int = 1
) -> CLIPConfig:
    """ViT-H/14 with XLM-RoBERTa Large: open_clip's xlm-roberta-large-ViT-H-14, 1,193M."""
    return CLIPConfig(
        vision=_vision(
            patch_size=14,
            width=1280,
            depth=32,
            head_width=80,
            image_size=image_size,
            activation="gelu",
        ),
        text=_xlm_roberta(
            width=1024, depth=24, vocabulary=vocabulary, length=length, pad_id=pad_id
        ),
        embedding=1024,
    )


def clip_tiny(*, vocabulary: int = 4096, image_size: int = 64) -> CLIPConfig:
    """Two towers of width 128: trains in minutes on two CPU cores."""
    return CLIPConfig(
        vision=VisionConfig(
            image_size=image_size,
            patch_size=8,
            width=128,
            depth=4,
            heads=4,
            hidden=512,
            class_token=True,
            activation="gelu_tanh",
            stem="conv",
            positions="sincos",
        ),
        text=TextTowerConfig(
            vocabulary=vocabulary,
            length=32,
            width=128,
            depth=2,
            heads=4,
            hidden=512,
            activation="gelu_tanh",
        ),
        embedding=128,
        dtype="float32",
    )


PRESETS: dict[str, Callable[..., CLIPConfig]] = {
    "clip-tiny": clip_tiny,
    "clip-b32": clip_b32,
    "clip-b16": clip_b16,
    "clip-l14": clip_l14,
    "clip-xlmr-b32": clip_xlmr_b32,
    "clip-xlmr-h14": clip_xlmr_h14,
}
