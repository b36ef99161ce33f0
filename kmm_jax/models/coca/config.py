"""The configuration of a CoCa and its presets (arXiv 2205.01917, table 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from kmm_jax.models.transformer import Activation
from kmm_jax.models.vision import VisionConfig

Pooling = Literal["cascade", "parallel", "cls", "first"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDecoderConfig:
    """The text side: a unimodal half without, a multimodal half with cross-attention.

    Attributes:
        length: most tokens of a text, ``[BOS]`` and ``[EOS]`` included, ``[CLS]`` not.
        tie_embeddings: use the token embedding as output softmax too.
        cross_ffn: a layer of the multimodal half is two, see ``Layer``.
        own_cls: ``[CLS]`` has a vector of its own, and no row among the tokens.
        cls_place: ``"behind"`` its text, before the padding; ``"last"`` as open_clip puts it, where
            it sees one position of padding too, and not itself (which released weights expect).
        pad_id, cls_id: the tokenizer's.
    """

    vocabulary: int
    length: int = 64
    width: int
    heads: int
    hidden: int
    unimodal_depth: int
    multimodal_depth: int
    tie_embeddings: bool = False
    cross_ffn: bool = False
    own_cls: bool = False
    cls_place: Literal["behind", "last"] = "behind"
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-6
    pad_id: int = 0
    cls_id: int = 3
    remat: str = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoCaConfig:
    """A Contrastive Captioner.

    Attributes:
        pooling: where the contrastive image vector comes from. ``"cascade"`` pools it from the
            generative pooler's output (the paper's default), ``"parallel"`` from the encoder's
            output, ``"cls"`` takes the encoder's class token and pools only the other tokens for
            the decoder (the talk's variant). ``"first"`` takes the first of the generative pooler's
            vectors and leaves the others to the decoder (open_clip's released models).
        queries: vectors made by the generative pooler, to which the decoder attends.
        query_norm: a norm of the poolers' learned queries, as in open_clip.
        embedding: dimension of the contrastive space.
        temperature: initial value of the learned softmax temperature (0.07 in the paper).
        dtype: of the computation; parameters are float32.
    """

    vision: VisionConfig
    text: TextDecoderConfig
    pooling: Pooling = "cascade"
    queries: int = 256
    query_norm: bool = False
    pooler_heads: int
    embedding: int
    temperature: float = 0.07
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        has_class = self.pooling in ("cls", "first")
        if self.vision.class_token != has_class:
            raise ValueError(
                f"pooling {self.pooling!r} needs vision.class_token={has_class}, "
                f"got {self.vision.class_token}"
            )

    @property
    def context(self) -> int:
        """How many vectors of an image the decoder attends to."""
        return self.queries - (self.pooling == "first")


def _paper(
    *,
    width: int,
    depth: int,
    heads: int,
    vision_hidden: int,
    text_hidden: int,
    half: int,
    tie_embeddings: bool,
    image_size: int,
) -> CoCaConfig:
    return CoCaConfig(
        vision=VisionConfig(
            image_size=image_size,
            patch_size=18,
            width=width,
            depth=depth,
            heads=heads,
            hidden=vision_hidden,
        ),
        text=TextDecoderConfig(
            vocabulary=64_000,
            width=width,
            heads=heads,
            hidden=text_hidden,
            unimodal_depth=half,
            multimodal_depth=half,
            tie_embeddings=tie_embeddings,
        ),
        pooler_heads=heads,
        embedding=width,
    )


def coca_base(*, image_size: int = 288, tie_embeddings: bool = False) -> CoCaConfig:
    """CoCa-Base: image 86M, decoder 297M parameters."""
    return _paper(
        width=768,
        depth=12,
        heads=12,
        vision_hidden=3072,
        text_hidden=3072,
        half=12,
        tie_embeddings=tie_embeddings,
        image_size=image_size,
    )


def coca_large(*, image_size: int = 288, tie_embeddings: bool = False) -> CoCaConfig:
    """CoCa-Large: image 303M, decoder 484M parameters."""
    return _paper(
        width=1024,
        depth=24,
        heads=16,
        vision_hidden=4096,
        text_hidden=4096,
        half=12,
        tie_embeddings=tie_embeddings,
        image_size=image_size,
    )


def coca_2b(*, image_size: int = 288, tie_embeddings: bool = True) -> CoCaConfig:
    """CoCa: image 1B, decoder 1.1B, together 2.1B parameters (this row only adds up when tied)."""
    return _paper(
        width=1408,
        depth=40,
        heads=16,
        vision_hidden=6144,
        text_hidden=5632,
        half=18,
        tie_embeddings=tie_embeddings,
        image_size=image_size,
    )


def small(
    *,
    image_size: int,
    patch_size: int,
    width: int,
    depth: int,
    half: int,
    vocabulary: int,
    length: int,
    queries: int = 16,
    pooling: Pooling = "cascade",
    dtype: str = "float32",
) -> CoCaConfig:
    """A CoCa for little data: conv stem, heads of 32 or 64, FFN of four widths, tied embedding."""
    heads = max(1, width // (32 if width < 256 else 64))
    return CoCaConfig(
        vision=VisionConfig(
            image_size=image_size,
            patch_size=patch_size,
            width=width,
            depth=depth,
            heads=heads,
            hidden=4 * width,
            class_token=pooling == "cls",
            activation="gelu_tanh",
            stem="conv",
            positions="sincos",
        ),
        text=TextDecoderConfig(
            vocabulary=vocabulary,
            length=length,
            width=width,
            heads=heads,
            hidden=4 * width,
            unimodal_depth=half,
            multimodal_depth=half,
            tie_embeddings=True,
            activation="gelu_tanh",
        ),
        pooling=pooling,
        queries=queries,
        pooler_heads=heads,
        embedding=width,
        dtype=dtype,
    )


def coca_tiny(*, vocabulary: int = 4096, image_size: int = 64) -> CoCaConfig:
    """2 + 2 decoder layers of width 128: trains in minutes on two CPU cores."""
    return small(
        image_size=image_size,
        patch_size=8,
        width=128,
        depth=4,
        half=2,
        vocabulary=vocabulary,
        length=32,
    )


def coca_small(*, vocabulary: int = 16_000, image_size: int = 144) -> CoCaConfig:
    """6 + 6 decoder layers of width 384: an evening on one consumer GPU."""
    return small(
        image_size=image_size,
        patch_size=16,
        width=384,
        depth=12,
        half=6,
        vocabulary=vocabulary,
        length=64,
        queries=64,
        dtype="bfloat16",
    )


PRESETS: dict[str, Callable[..., CoCaConfig]] = {
    "coca-tiny": coca_tiny,
    "coca-small": coca_small,
    "coca-base": coca_base,
    "coca-large": coca_large,
    "coca-2b": coca_2b,
}
