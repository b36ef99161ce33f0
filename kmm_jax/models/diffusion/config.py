"""The networks of a Stable Diffusion as values, and presets from SD 1.5 down to a processor's size.

Names are those of this library; ``interop/diffusers`` says which key of a published
``config.json`` each comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from kmm_jax.models.clip.config import TextTowerConfig, XLMRobertaConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """A UNet over latents, conditioned on a timestep and on a sequence (arXiv 2112.10752, 3.3).

    Attributes:
        in_channels: of the latents; 9 in an inpainting model, which also sees mask and picture.
        widths: channels of each level, each half as large along a side as the one before.
        layers: ResNet blocks of each level on the way down; one more on the way up.
        transformers: depth of the spatial transformers of each level; 0 for a level without.
        heads: of attention at each level.
        context_width: of the sequence that is attended to.
        linear_projection: published as a linear layer around the transformers, not as a 1x1
            convolution: the same numbers in another shape.
        norm_groups, norm_epsilon: of the group norms in ResNet blocks.
        time_ids, pooled_width: how many numbers (SDXL's sizes and crops, arXiv 2307.01952, 2.2) and
            how wide a text vector are added to the timestep; 0 for none.
        time_id_width: of the sinusoids of each such number.
        guidance_width: of an embedded guidance scale that is added to the timestep (latent
            consistency models, arXiv 2310.04378); 0 for none.
        sample_size: latents along a side it was trained for.
        dtype: of the computation.
        remat: recompute blocks in the backward pass, as ``models.transformer.rematerialised``.

    Raises:
        ValueError: the levels do not agree, or a width does not divide by heads or groups.
    """

    in_channels: int = 4
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    transformers: tuple[int, ...] = (1, 1, 1, 0)
    heads: tuple[int, ...] = (8, 8, 8, 8)
    middle_transformers: int = 1
    context_width: int = 768
    linear_projection: bool = False
    norm_groups: int = 32
    norm_epsilon: float = 1e-5
    time_ids: int = 0
    pooled_width: int = 0
    time_id_width: int = 256
    guidance_width: int = 0
    sample_size: int = 64
    dtype: str = "float32"
    remat: str = "none"

    def __post_init__(self) -> None:
        for name in ("transformers", "heads"):
            if len(getattr(self, name)) != len(self.widths):
                raise ValueError(
                    f"{name}={getattr(self, name)} for {len(self.widths)} levels of widths; give "
                    "one for each"
                )
        for width, heads, depth in zip(self.widths, self.heads, self.transformers, strict=True):
            if width % self.norm_groups:
                raise ValueError(f"width {width} does not divide into {self.norm_groups} groups")
            if depth and width % heads:
                raise ValueError(f"width {width} does not divide into {heads} heads")

    @property
    def smallest(self) -> int:
        """Latents along a side must divide by this: each level but the last halves them."""
        return 2 ** (len(self.widths) - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """An autoencoder between pictures and latents (arXiv 2112.10752, 3.1; ``AutoencoderKL``).

    Attributes:
        widths: channels of each level from the picture down; each but the last halves the sides.
        layers: ResNet blocks of each level of the encoder; the decoder has one more.
        middle_attention: attention over all positions at the smallest level.
        quant, post_quant: a 1x1 convolution on the latents' side of encoder and decoder.
        scaling: latents are multiplied by it before diffusion, for about unit variance.
        shift: subtracted before that.
        sample_size: pixels along a side it was trained for.
    """

    in_channels: int = 3
    latent_channels: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    norm_groups: int = 32
    middle_attention: bool = True
    quant: bool = True
    post_quant: bool = True
    scaling: float = 0.18215
    shift: float = 0.0
    sample_size: int = 512
    dtype: str = "float32"
    remat: str = "none"

    def __post_init__(self) -> None:
        for width in self.widths:
            if width % self.norm_groups:
                raise ValueError(f"width {width} does not divide into {self.norm_groups} groups")

    @property
    def factor(self) -> int:
        """Pixels along a side for one latent."""
        return 2 ** (len(self.widths) - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """What turns a prompt into the sequence that a UNet attends to.

    Attributes:
        projection: width of the pooled text vector; None where the encoder has no projection.
    """

    tower: TextTowerConfig
    projection: int | None = None
    dtype: str = "float32"

    keeps_places: ClassVar[bool] = True

    @property
    def vocabulary(self) -> int:
        """Rows of the table of tokens."""
        return self.tower.vocabulary

    @property
    def length(self) -> int:
        """Tokens of a prompt, its marks and padding included."""
        return self.tower.length

    @property
    def positions(self) -> int:
        """Vectors of the sequence that it gives: one for each token."""
        return self.tower.length

    @property
    def width(self) -> int:
        """Numbers of each vector."""
        return self.tower.width

    @property
    def eos_id(self) -> int:
        """The token that ends a prompt."""
        return self.tower.eos_id

    @property
    def pad_id(self) -> int:
        """The token that fills a prompt up, where its tokenizer does not say: the end again."""
        return self.tower.eos_id

    @property
    def skippable(self) -> int:
        """Layers that may be left out at the end."""
        return self.tower.depth - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResampledTextEncoderConfig:
    """An XLM-RoBERTa, and learned queries that gather a sequence of another form from it.

    So prompts are read by a tokenizer and a tower of their own, and what is read takes the form of
    the encoder that a UNet was trained with. ``models.diffusion.resampler`` is the module.

    Attributes:
        positions: vectors of the sequence that it gives, a query each, whatever ``tower.length``.
        width: numbers of each vector.
        depth, heads, hidden: of the layers of queries, which have the tower's width.
        projection: width of the pooled text vector; None where it has that of the others.
        norm_epsilon: of the norms behind the tower.
        eos_id: the token that ends a prompt.

    Raises:
        ValueError: the tower's width does not divide by ``heads``.
    """

    tower: XLMRobertaConfig
    positions: int
    width: int
    depth: int
    heads: int
    hidden: int
    projection: int | None = None
    norm_epsilon: float = 1e-5
    eos_id: int = 2
    dtype: str = "float32"

    keeps_places: ClassVar[bool] = False
    skippable: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.tower.width % self.heads:
            raise ValueError(
                f"the queries have the tower's width {self.tower.width}, which does not divide "
                f"into heads={self.heads}"
            )

    @property
    def vocabulary(self) -> int:
        """Rows of the table of tokens."""
        return self.tower.vocabulary

    @property
    def length(self) -> int:
        """Tokens of a prompt, its marks and padding included."""
        return self.tower.length

    @property
    def pad_id(self) -> int:
        """The token that fills a prompt up."""
        return self.tower.pad_id


AnyTextConfig = TextEncoderConfig | ResampledTextEncoderConfig
"""What may read prompts. All of them say ``vocabulary`` and ``length`` of what is read, ``eos_id``
and ``pad_id``; ``positions``, ``width`` and ``projection`` of what is given; ``skippable``, how
many layers may be left out at the end; ``keeps_places``, whether the vector at a position is of the
token there, so that a text ends where its ids do; and ``dtype``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentDiffusionConfig:
    """A whole model: text encoders (SDXL has two), UNet and autoencoder."""

    texts: tuple[AnyTextConfig, ...]
    unet: UNetConfig
    vae: VAEConfig

    def __post_init__(self) -> None:
        if len(self.texts) > 1 and not all(text.skippable for text in self.texts):
            raise ValueError(
                "of several text encoders the states before the last layer count (SDXL), which a "
                "tower of one layer and a resampled one do not have"
            )
        width = sum(text.width for text in self.texts)
        if width != self.unet.context_width:
            raise ValueError(
                f"the text encoders give vectors of {width} numbers and the UNet attends to "
                f"{self.unet.context_width}"
            )


CLIP_L_TEXT = TextTowerConfig(
    vocabulary=49_408,
    length=77,
    width=768,
    depth=12,
    heads=12,
    hidden=3072,
    activation="quick_gelu",
    pooling="argmax",
    eos_id=49_407,
)
"""The text tower of OpenAI's CLIP L/14, which SD 1.x and SDXL read prompts with."""


def sd15(**changes: Any) -> LatentDiffusionConfig:
    """Stable Diffusion 1.x: 860M + 84M + 123M parameters."""
    return LatentDiffusionConfig(
        texts=(TextEncoderConfig(tower=CLIP_L_TEXT),), unet=UNetConfig(**changes), vae=VAEConfig()
    )


def sd21(**changes: Any) -> LatentDiffusionConfig:
    """Stable Diffusion 2.x, with 23 layers of OpenCLIP's H/14 text tower."""
    tower = dataclasses.replace(
        CLIP_L_TEXT, width=1024, depth=23, heads=16, hidden=4096, activation="gelu"
    )
    return LatentDiffusionConfig(
        texts=(TextEncoderConfig(tower=tower),),
        unet=UNetConfig(
            heads=(5, 10, 20, 20),
            context_width=1024,
            linear_projection=True,
            **{"sample_size": 96, **changes},
        ),
        vae=VAEConfig(),
    )


def sdxl(**changes: Any) -> LatentDiffusionConfig:
    """SDXL base 1.0 (arXiv 2307.01952)."""
    large = dataclasses.replace(
        CLIP_L_TEXT, width=1280, depth=32, heads=20, hidden=5120, activation="gelu"
    )
    return LatentDiffusionConfig(
        texts=(
            TextEncoderConfig(tower=CLIP_L_TEXT),
            TextEncoderConfig(tower=large, projection=1280),
        ),
        unet=UNetConfig(
            widths=(320, 640, 1280),
            transformers=(0, 2, 10),
            heads=(5, 10, 20),
            middle_transformers=10,
            context_width=2048,
            linear_projection=True,
            time_ids=6,
            pooled_width=1280,
            **{"sample_size": 128, **changes},
        ),
        vae=VAEConfig(scaling=0.13025, sample_size=1024),
    )


def tiny(*, vocabulary: int, image_size: int = 64, length: int = 24) -> LatentDiffusionConfig:
    """For one processor: latents of a quarter of the sides, 5M parameters in all."""
    return LatentDiffusionConfig(
        texts=(
            TextEncoderConfig(
                tower=TextTowerConfig(
                    vocabulary=vocabulary, length=length, width=96, depth=2, heads=4, hidden=384
                )
            ),
        ),
        unet=UNetConfig(
            widths=(64, 96, 128),
            layers=1,
            transformers=(0, 1, 1),
            heads=(4, 4, 4),
            context_width=96,
            norm_groups=16,
            sample_size=image_size // 4,
        ),
        vae=VAEConfig(
            widths=(32, 64, 64), layers=1, norm_groups=16, scaling=1.0, sample_size=image_size
        ),
    )


PRESETS: dict[str, Callable[..., LatentDiffusionConfig]] = {
    "sd15": sd15,
    "sd21": sd21,
    "sdxl": sdxl,
    "diffusion-tiny": tiny,
}
