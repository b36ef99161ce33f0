"""A decoded image -> the square the model sees: random for training, centred for evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from kmm_jax.errors import ConfigError

_CROP_ATTEMPTS = 10

# Standard deviations of the blur in a picture of 224 pixels, and where solarising begins to invert
# (SimCLR, MoCo v3 and SLIP have the same).
_BLUR_SIGMA = (0.1, 2.0)
_BLUR_SIZE = 224
_SOLARISE_FROM = 128


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What training does to an image.

    ``scale`` is the range of the crop's share of the image's area and ``ratio`` that of its width
    over its height (the random resized crop of Szegedy et al., arXiv 1409.4842); ``flip`` is the
    probability of mirroring; ``brightness``, ``contrast`` and ``saturation`` are how far the factor
    may stray from 1 (0.2: 0.8 to 1.2). Colours are left alone by default: they are in the texts.

    The rest is for views that self-supervision compares (SimCLR, arXiv 2002.05709; MoCo v3,
    2104.02057; SLIP, 2112.12750). ``hue`` is how far the hue may turn either way, as a share of the
    circle; ``jitter`` the probability that brightness, contrast, saturation and hue are touched at
    all; ``grey``, ``blur`` and ``solarise`` are the probabilities of greyscale, of a Gaussian blur
    and of inverting all values from 128 on.

    The blur's sigma is drawn from 0.1 to 2.0 pixels in a picture of 224 and grows and shrinks with
    the side, so that it hides the same share of any picture. That is our choice: the papers know
    one size. Brightness, contrast, saturation and hue follow each other in this order, where theirs
    is drawn: what each does is random enough, and draws for an order would change the pixels of
    every configuration there was before.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter: float = 1.0
    grey: float = 0.0
    blur: float = 0.0
    solarise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"augment.scale must be 0 < low <= high <= 1, found {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"augment.ratio must be 0 < low <= high, found {self.ratio}")
        for name in (
            *("flip", "brightness", "contrast", "saturation"),
            *("jitter", "grey", "blur", "solarise"),
        ):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"augment.{name} must be in [0, 1], found {value}")
        if not 0 <= self.hue <= 0.5:
            raise ConfigError(
                f"augment.hue must be in [0, 0.5], half the circle either way, found {self.hue}"
            )

    @property
    def recolours(self) -> str | None:
        """The first setting, if any, that changes colours or sharpness; None where none does."""
        names = ("brightness", "contrast", "saturation", "hue", "grey", "blur", "solarise")
        return next((name for name in names if getattr(self, name)), None)


def sides_needed(size: int, config: AugmentConfig) -> int:
    """The shorter side to decode, so that a typical smallest crop still has ``size`` pixels."""
    return math.ceil(size / math.sqrt(config.scale[0]))


class Augmented(NamedTuple):
    """An augmented image.

    Attributes:
        pixels: uint8 (size, size, 3).
        corner: top and left of the crop in the whole picture, resized and mirrored as the crop was.
    """

    pixels: np.ndarray
    corner: tuple[int, int]


def augment(
    image: Image.Image | np.ndarray,
    rng: np.random.Generator,
    size: int,
    config: AugmentConfig = AugmentConfig(),
) -> np.ndarray:
    """A random crop of ``image``, resized (bicubic, antialiased), mirrored, recoloured, blurred.

    ``image`` is RGB, a picture or uint8 (H, W, 3). Returns uint8 (size, size, 3), a pure function
    of the arguments and the state of ``rng``. What ``config`` leaves out draws no numbers.
    """
    return augmented(image, rng, size, config).pixels


def augmented(
    image: Image.Image | np.ndarray,
    rng: np.random.Generator,
    size: int,
    config: AugmentConfig = AugmentConfig(),
) -> Augmented:
    """What ``augment`` gives, and where its crop was."""
    picture = _picture(image)
    box = _crop(picture.size, rng, config)
    left, width = box[0], picture.width
    picture = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < config.flip:
        left = width - box[2]
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if _happens(config.jitter, rng):
        picture = _jittered(picture, rng, config)
    if _happens(config.grey, rng):
        picture = picture.convert("L").convert("RGB")
    if _happens(config.blur, rng):
        sigma = rng.uniform(*_BLUR_SIGMA) * size / _BLUR_SIZE
        picture = picture.filter(ImageFilter.GaussianBlur(sigma))
    if _happens(config.solarise, rng):
        picture = ImageOps.solarize(picture, _SOLARISE_FROM)
    corner = (
        round(box[1] * size / (box[3] - box[1])),
        round(left * size / (box[2] - box[0])),
    )
    return Augmented(np.asarray(picture), corner)


def centre_corner(width: int, height: int, size: int) -> tuple[int, int]:
    """The corner of what ``resize_centre`` takes, as ``Augmented`` has it."""
    side = min(width, height)
    return round((height - side) / 2 * size / side), round((width - side) / 2 * size / side)


def resize_centre(image: Image.Image | np.ndarray, size: int) -> np.ndarray:
    """The central square of ``image``, resized (bicubic, antialiased) to uint8 (size, size, 3)."""
    picture = _picture(image)
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _picture(image: Image.Image | np.ndarray) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def _happens(probability: float, rng: np.random.Generator) -> bool:
    """Whether it does, this time; what is certain draws nothing."""
    return probability == 1 or (probability > 0 and rng.random() < probability)


def _jittered(picture: Image.Image, rng: np.random.Generator, config: AugmentConfig) -> Image.Image:
    for enhancer, reach in (
        (ImageEnhance.Brightness, config.brightness),
        (ImageEnhance.Contrast, config.contrast),
        (ImageEnhance.Color, config.saturation),
    ):
        if reach:
            picture = enhancer(picture).enhance(rng.uniform(1 - reach, 1 + reach))
    if config.hue:
        picture = _turned_hue(picture, rng.uniform(-config.hue, config.hue))
    return picture


def _turned_hue(picture: Image.Image, turn: float) -> Image.Image:
    """All hues turned by a share of the circle, to the nearest of Pillow's 256 steps."""
    hue, saturation, value = picture.convert("HSV").split()
    hue = hue.point([round(step + turn * 256) % 256 for step in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _crop(
    size: tuple[int, int], rng: np.random.Generator, config: AugmentConfig
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a random crop; the central one where no draw fits."""
    width, height = size
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * rng.uniform(*config.scale)
        ratio = math.exp(rng.uniform(math.log(config.ratio[0]), math.log(config.ratio[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * config.ratio[1])))
    h = min(height, max(1, round(width / config.ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
