"""The configuration of an attribute search model and its presets (the talk, slide 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from kmm_jax.models.clip.config import CLIPConfig, TextConfig, clip_b16, clip_tiny
from kmm_jax.models.vision import VisionConfig

Fusion = Literal["attend", "concat"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributesConfig:
    """The towers of a CLIP, and how a picture's vector takes in the name of a category.

    Attributes:
        embedding: dimension of the space that pictures and attributes meet in.
        temperature: initial value of that space's learned softmax temperature.
        fusion: ``"attend"``: the category attends to the patches of the picture, and what it finds
            is added to the picture's vector; ``"concat"``: an MLP of both vectors is.
        heads: of that attention.
        dtype: of the computation; parameters are float32.
    """

    vision: VisionConfig
    text: TextConfig
    embedding: int
    temperature: float = 0.07
    fusion: Fusion = "attend"
    heads: int = 8
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.fusion not in ("attend", "concat"):
            raise ValueError(f"fusion is attend or concat, not {self.fusion!r}")
        if self.fusion == "attend" and self.vision.width % self.heads:
            raise ValueError(
                f"heads={self.heads} do not divide the image tower's width {self.vision.width}"
            )

    @property
    def clip(self) -> CLIPConfig:
        """The CLIP that it is without categories."""
        return CLIPConfig(
            vision=self.vision,
            text=self.text,
            embedding=self.embedding,
            temperature=self.temperature,
            dtype=self.dtype,
        )


def attributes_over(clip: CLIPConfig, **settings: Any) -> AttributesConfig:
    """An attribute search model with the towers of ``clip``."""
    towers = {field.name: getattr(clip, field.name) for field in dataclasses.fields(clip)}
    return AttributesConfig(**towers, **settings)


def attributes_b16(*, vocabulary: int = 49_408, image_size: int = 224) -> AttributesConfig:
    """The towers of CLIP ViT-B/16."""
    return attributes_over(clip_b16(vocabulary=vocabulary, image_size=image_size), heads=12)


def attributes_tiny(*, vocabulary: int = 4096, image_size: int = 64) -> AttributesConfig:
    """The towers of ``clip-tiny``: trains in minutes on two CPU cores."""
    return attributes_over(clip_tiny(vocabulary=vocabulary, image_size=image_size), heads=4)


PRESETS: dict[str, Callable[..., AttributesConfig]] = {
    "attributes-tiny": attributes_tiny,
    "attributes-b16": attributes_b16,
}
