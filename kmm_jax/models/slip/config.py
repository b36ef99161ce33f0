"""The configuration of a SLIP and its presets (arXiv 2112.12750)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from kmm_jax.models.clip.config import CLIPConfig, TextTowerConfig, clip_tiny
from kmm_jax.models.vision import VisionConfig

# ImageNet's image statistics, which SLIP's authors normalise by.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

VIEWS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewHeadConfig:
    """The MLP between the image tower and the loss that compares views.

    Attributes:
        hidden: width of its two inner layers.
        embedding: dimension of the space the views are compared in.
    """

    hidden: int = 4096
    embedding: int = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class SLIPConfig:
    """The towers of a CLIP, and a head for views of the same picture.

    Attributes:
        embedding: dimension of the space that images and texts meet in.
        temperature: initial value of that space's learned softmax temperature.
        head: used in training only.
        dtype: of the computation; parameters are float32, and so is batch norm.
    """

    vision: VisionConfig
    text: TextTowerConfig
    embedding: int
    temperature: float = 0.07
    head: ViewHeadConfig = dataclasses.field(default_factory=ViewHeadConfig)
    dtype: str = "bfloat16"

    @property
    def clip(self) -> CLIPConfig:
        """The CLIP that is left of it in use."""
        return CLIPConfig(
            vision=self.vision,
            text=self.text,
            embedding=self.embedding,
            temperature=self.temperature,
            dtype=self.dtype,
        )


def _over(clip: CLIPConfig, head: ViewHeadConfig) -> SLIPConfig:
    """A SLIP with the towers of ``clip``."""
    towers = {field.name: getattr(clip, field.name) for field in dataclasses.fields(clip)}
    return SLIPConfig(head=head, **towers)


def slip_b16(*, vocabulary: int = 49_408, image_size: int = 224) -> SLIPConfig:
    """SLIP ViT-B/16: 149.6M parameters as a CLIP with OpenAI's vocabulary, and a head of 21.0M.

    The image tower is timm's ``vit_base_patch16_224`` (no norm before the first layer), the text
    tower OpenAI's with its ``quick_gelu``, as the authors' released weights have them.
    """
    clip = CLIPConfig(
        vision=VisionConfig(
            image_size=image_size,
            patch_size=16,
            width=768,
            depth=12,
            heads=12,
            hidden=3072,
            class_token=True,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        ),
        text=TextTowerConfig(
            vocabulary=vocabulary,
            length=77,
            width=512,
            depth=12,
            heads=8,
            hidden=2048,
            activation="quick_gelu",
        ),
        embedding=512,
    )
    return _over(clip, ViewHeadConfig())


def slip_tiny(*, vocabulary: int = 4096, image_size: int = 64) -> SLIPConfig:
    """``clip-tiny`` with a head of width 512: trains in minutes on two CPU cores."""
    clip = clip_tiny(vocabulary=vocabulary, image_size=image_size)
    return _over(clip, ViewHeadConfig(hidden=512, embedding=128))


PRESETS: dict[str, Callable[..., SLIPConfig]] = {
    "slip-tiny": slip_tiny,
    "slip-b16": slip_b16,
}
