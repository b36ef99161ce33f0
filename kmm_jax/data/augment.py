"""A decoded image -> the square the model sees: random for training, centred for evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from kmm_jax.errors import ConfigError

_CROP_ATTEMPTS = 10


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What training does to an image.

    ``scale`` is the range of the crop's share of the image's area and ``ratio`` that of its width
    over its height (the random resized crop of Szegedy et al., arXiv 1409.4842); ``flip`` is the
    probability of mirroring; ``brightness``, ``contrast`` and ``saturation`` are how far the factor
    may stray from 1 (0.2: 0.8 to 1.2). Colours are left alone by default: they are in the texts.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"augment.scale must be 0 < low <= high <= 1, found {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"augment.ratio must be 0 < low <= high, found {self.ratio}")
        for name in ("flip", "brightness", "contrast", "saturation"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"augment.{name} must be in [0, 1], found {value}")


def sides_needed(size: int, config: AugmentConfig) -> int:
    """The shorter side to decode, so that a typical smallest crop still has ``size`` pixels."""
    return math.ceil(size / math.sqrt(config.scale[0]))


def augment(
    image: Image.Image | np.ndarray,
    rng: np.random.Generator,
    size: int,
    config: AugmentConfig = AugmentConfig(),
) -> np.ndarray:
    """A random crop of ``image``, resized (bicubic, antialiased), mirrored and recoloured.

    ``image`` is RGB, a picture or uint8 (H, W, 3). Returns uint8 (size, size, 3), a pure function
    of the arguments and the state of ``rng``.
    """
    picture = _picture(image)
    box = _crop(picture.size, rng, config)
    picture = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < config.flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhancer, reach in (
        (ImageEnhance.Brightness, config.brightness),
        (ImageEnhance.Contrast, config.contrast),
        (ImageEnhance.Color, config.saturation),
    ):
        if reach:
            picture = enhancer(picture).enhance(rng.uniform(1 - reach, 1 + reach))
    return np.asarray(picture)


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
