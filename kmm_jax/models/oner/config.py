"""The configuration of a one-tower model and its presets (slides 3.3, arXiv 2211.11153).

Talk and paper give a ViT-B/16 of 12 layers with one projection head, in the frame of MoCo v3. Token
types, positions by modality, text length and vocabulary are our choice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from kmm_jax.models.clip.config import CLIP_MEAN, CLIP_STD
from kmm_jax.models.stem import stem_channels
from kmm_jax.models.transformer import Activation

Grouping = Literal["pass", "joint", "modality"]
Scored = Literal["projector", "predictor"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageInputConfig:
    """How a picture enters the tower; the fields are those of ``VisionConfig``."""

    image_size: int
    patch_size: int
    stem: Literal["linear", "conv"] = "linear"
    positions: Literal["random", "sincos"] = "random"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )

    @property
    def side(self) -> int:
        """Patches along one side of the grid G."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Number of patches N."""
        return self.side**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextInputConfig:
    """How a text enters the tower.

    Attributes:
        length: tokens of a text, special ones included.
        pad_id: fills texts up; no position attends to it.
    """

    vocabulary: int
    length: int
    pad_id: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """The layers that images, texts and both together go through; ``remat`` as in ``Stack``."""

    width: int
    depth: int
    heads: int
    hidden: int
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-6
    remat: str = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """From the tower's [CLS] to the space of the loss (MoCo v3, arXiv 2104.02057, section 4.1).

    Attributes:
        kind: ``"mlp"``, a projector of three linear layers with batch norm, or ``"linear"``, one.
        hidden: width of the MLPs' inner layers; 4096 in MoCo v3.
        embedding: dimension of the vectors; 256 in MoCo v3.
        apart: a head (projector and predictor) for images and another for texts, the table's "two
            heads"; such a model has none for both together.
        predictor: an MLP of two layers behind the student's projector, that the teacher lacks.
        statistics: what a batch norm takes its mean and variance over while training, always over
            the global batch. ``"pass"``: each pass (images, texts, both) alone, as MoCo v3 does;
            ``"joint"``: all passes of one network together. In use both have one set of running
            statistics, which follow the mean over a step's passes: images and texts are then
            normalised by what lies between them. ``"modality"``: each pass alone, in use too.
            With two heads each sees one modality, so all three are the last.
        momentum: of the running statistics, which move once a step.
        scored: which output is a vector in use. ``"projector"``, or ``"predictor"``: the images'
            go through the predictor as well, the texts' do not, as the loss compares them.
    """

    kind: Literal["mlp", "linear"] = "mlp"
    hidden: int = 4096
    embedding: int = 256
    apart: bool = False
    predictor: bool = True
    statistics: Grouping = "pass"
    momentum: float = 0.9
    scored: Scored = "projector"

    def __post_init__(self) -> None:
        if self.scored == "predictor" and not self.predictor:
            raise ValueError("head.scored is predictor, but head.predictor is off")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"head.momentum must be in [0, 1), got {self.momentum}")

    def describe(self) -> str:
        """For tables: ``one mlp head, predictor, batch norm by pass, projector scored``."""
        return ", ".join(
            (
                f"{'two' if self.apart else 'one'} {self.kind} head{'s' if self.apart else ''}",
                "predictor" if self.predictor else "no predictor",
                *((f"batch norm by {self.statistics}",) if self.normalised else ()),
                f"{self.scored} scored",
            )
        )

    @property
    def normalised(self) -> bool:
        """Whether there is any batch norm."""
        return self.kind == "mlp" or self.predictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """Masked image and language modelling beside the contrast; our choice in all its parts.

    The student's passes see masked inputs and every loss comes from the same pass; the teacher sees
    them whole. Pixels are predicted as in arXiv 2111.06377 (each patch normalised, squared error),
    words as in arXiv 1810.04805, both at the masked places only.

    Attributes:
        image_share, text_share: of patches and of words that are masked, each by chance.
        image_weight, text_weight: of the two losses.
    """

    image_share: float = 0.4
    text_share: float = 0.15
    image_weight: float = 1.0
    text_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("image_share", "text_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"masking.{name} must be in [0, 1), got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneRConfig:
    """A one-tower model.

    One LayerNorm before the first layer brings patches and words to one scale: embedded, they
    differ thirtyfold, and that would be a modality gap of our own making (our choice).

    Attributes:
        temperature: of the contrast; 0.2 in MoCo v3's ViTs.
        learned_temperature: learn it, from there.
        masking: predict masked patches and words besides; None for none.
        dtype: of the computation; parameters are float32, and so is batch norm.
    """

    vision: ImageInputConfig
    text: TextInputConfig
    tower: TowerConfig
    head: HeadConfig = dataclasses.field(default_factory=HeadConfig)
    temperature: float = 0.2
    learned_temperature: bool = False
    masking: MaskingConfig | None = None
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.vision.stem == "conv":
            stem_channels(self.vision.patch_size, self.tower.width)
        if self.vision.positions == "sincos" and self.tower.width % 4:
            raise ValueError(
                f"sincos positions need a width divisible by 4, got {self.tower.width}"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    @property
    def embedding(self) -> int:
        """Dimension of the vectors E."""
        return self.head.embedding


def oner_b16(
    *, vocabulary: int = 49_408, image_size: int = 224, text_length: int = 77
) -> OneRConfig:
    """ViT-B/16 with one head, the size of the talk's table."""
    return OneRConfig(
        vision=ImageInputConfig(
            image_size=image_size,
            patch_size=16,
            positions="sincos",
            mean=CLIP_MEAN,
            std=CLIP_STD,
        ),
        text=TextInputConfig(vocabulary=vocabulary, length=text_length),
        tower=TowerConfig(width=768, depth=12, heads=12, hidden=3072),
    )


def oner_s16(
    *, vocabulary: int = 32_000, image_size: int = 112, text_length: int = 32
) -> OneRConfig:
    """ViT-S/16 with one head: hours on one GPU."""
    return OneRConfig(
        vision=ImageInputConfig(
            image_size=image_size,
            patch_size=16,
            positions="sincos",
            mean=CLIP_MEAN,
            std=CLIP_STD,
        ),
        text=TextInputConfig(vocabulary=vocabulary, length=text_length),
        tower=TowerConfig(width=384, depth=12, heads=6, hidden=1536),
        head=HeadConfig(hidden=2048),
    )


def oner_tiny(*, vocabulary: int = 1500, image_size: int = 32, text_length: int = 16) -> OneRConfig:
    """A tower of width 128: trains in minutes on two CPU cores."""
    return OneRConfig(
        vision=ImageInputConfig(
            image_size=image_size, patch_size=8, stem="conv", positions="sincos"
        ),
        text=TextInputConfig(vocabulary=vocabulary, length=text_length),
        tower=TowerConfig(width=128, depth=3, heads=4, hidden=512, activation="gelu_tanh"),
        head=HeadConfig(hidden=512, embedding=64),
        dtype="float32",
    )


PRESETS: dict[str, Callable[..., OneRConfig]] = {
    "oner-tiny": oner_tiny,
    "oner-s16": oner_s16,
    "oner-b16": oner_b16,
}
