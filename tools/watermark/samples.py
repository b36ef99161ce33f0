"""What the detector learns from: photos with and without marks, each a function of its number.

S side in pixels, c cells of a side.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from kmm_jax.data.images import decode
from kmm_jax.data.shop import ShopConfig, render_item
from kmm_jax.errors import UserError
from kmm_jax.models.watermark import CELL
from tools.watermark import marks
from tools.watermark.marks import pick

PHOTOS = "fashion/clothing_photos"
SHOP_ITEMS = 200
_CROPS = (1.0, 1.4)  # side of a crop before it is resized, in sides of the sample
# Of `marks.KINDS`. Bare lines are rare: photos are full of wires and window frames.
_KIND_SHARES = (0.28, 0.25, 0.2, 0.12, 0.15)
_EASY = 30_000  # examples over which the faintest marks come in
_CLEAR = 3  # cells: with fewer, whether a picture is marked is not asked

# The least share of a cell's brightest pixel that a visible mark covers for the cell to count.
_COVERED = 60


class Example(NamedTuple):
    """A picture, where it is marked, and whether.

    Attributes:
        pixels_SSC: uint8 RGB.
        cells_cc: bool, whether a mark can be seen in a cell.
        label: 1 marked, 0 not, -1 too little of the mark to say.
    """

    pixels_SSC: np.ndarray
    cells_cc: np.ndarray
    label: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backgrounds:
    """Decoded pictures to lay marks over: photos, and pictures drawn by the shop."""

    photos: Sequence[np.ndarray]
    drawn: Sequence[np.ndarray]


def folder() -> Path:
    """Where the photos are.

    Raises:
        UserError: no such folder.
    """
    data = Path(os.environ.get("KMM_SHARED_DATA", "../shared/data"))
    if not (data / f"{PHOTOS}.tar").is_file():
        raise UserError(f"no photos: {data / PHOTOS}.tar is missing (set KMM_SHARED_DATA)")
    return data


def photos(data: Path, split: str) -> list[np.ndarray]:
    """The clothing photos of a split, decoded, in the order of the table."""
    with (data / f"{PHOTOS}.tsv").open(encoding="utf-8", newline="") as table:
        rows = csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
        names = [row["file"] for row in rows if row["split"] == split]
    wanted = set(names)
    found = {}
    with tarfile.open(data / f"{PHOTOS}.tar") as tar:
        for member in tar:
            opened = tar.extractfile(member) if member.name in wanted else None
            if opened is not None:
                found[member.name] = decode(opened.read(), 224)
    return [found[name] for name in names]


def drawn(items: int, *, seed: int = 5) -> list[np.ndarray]:
    """Pictures of the built-in shop."""
    config = ShopConfig(items=items, seed=seed, image_size=224, split="train")
    return [np.asarray(render_item(config, index).image) for index in range(items)]


def example(backgrounds: Backgrounds, seed: int, index: int, side: int) -> Example:
    """Training example ``index``; the same whenever and wherever it is made."""
    rng = np.random.default_rng((seed, index))
    region_HWC = _region(backgrounds, rng, side)
    region_HWC = _varied(region_HWC, rng)
    if rng.random() < 0.25:
        region_HWC = marks.decoy(region_HWC, rng, marks.TRAIN)
    seen_HW = np.zeros(region_HWC.shape[:2], bool)
    if rng.random() < 0.6:
        kind = marks.KINDS[int(rng.choice(len(marks.KINDS), p=_KIND_SHARES))]
        faintest = 0.18 + 0.3 * max(0.0, 1 - index / _EASY)
        low, high = (0.4, 1.0) if kind == "signature" else (faintest, 0.7)
        opacity = rng.uniform(low, high)
        region_HWC, seen_HW = marks.overlay(region_HWC, rng, marks.TRAIN, kind, opacity)
        if rng.random() < 0.08:  # a tag over a mark hides some of it and not that it is there
            region_HWC = marks.caption_or_tag(region_HWC, rng, marks.TRAIN)
    if rng.random() < 0.1:
        region_HWC = np.asarray(
            Image.fromarray(region_HWC).filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7)))
        )
    if rng.random() < 0.85:
        region_HWC = recompressed(region_HWC, int(rng.integers(50, 96)))
    return finished(region_HWC, seen_HW, side, recompress=int(rng.integers(60, 96)))


def finished(
    pixels_HWC: np.ndarray, seen_HW: np.ndarray, side: int, *, recompress: int | None = None
) -> Example:
    """Squash to a square, as the scorer does, and say which cells are marked."""
    image = Image.fromarray(pixels_HWC).resize((side, side), Image.Resampling.BILINEAR)
    pixels_SSC = np.asarray(image)
    if recompress is not None and recompress % 2:
        pixels_SSC = recompressed(pixels_SSC, recompress)
    mask = Image.fromarray(seen_HW.astype(np.uint8) * 255)
    seen_SS = np.asarray(mask.resize((side, side), Image.Resampling.BOX))
    cells = side // CELL
    cells_cc = seen_SS.reshape(cells, CELL, cells, CELL).max((1, 3)) > _COVERED
    marked = int(cells_cc.sum())
    return Example(pixels_SSC, cells_cc, 1 if marked >= _CLEAR else -1 if marked else 0)


def recompressed(pixels_HWC: np.ndarray, quality: int) -> np.ndarray:
    """The picture after JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _region(backgrounds: Backgrounds, rng: np.random.Generator, side: int) -> np.ndarray:
    draw = rng.random()
    if draw < 0.06 and backgrounds.drawn:
        return _crop(pick(rng, backgrounds.drawn), rng, side)
    if draw < 0.1:
        return _plain(rng, round(side * rng.uniform(*_CROPS)))
    if draw < 0.15:  # cut out of its photo, on one colour, as shops show things
        ground = _plain(rng, round(side * rng.uniform(*_CROPS)))
        size = ground.shape[0]
        photo = Image.fromarray(_crop(pick(rng, backgrounds.photos), rng, side))
        wide, high = (max(8, int(size * rng.uniform(0.4, 0.8))) for _ in range(2))
        left, top = int(rng.uniform(0, size - wide)), int(rng.uniform(0, size - high))
        canvas = Image.fromarray(ground)
        canvas.paste(photo.resize((wide, high)), (left, top))
        return np.asarray(canvas)
    return _crop(pick(rng, backgrounds.photos), rng, side)


def _crop(photo_HWC: np.ndarray, rng: np.random.Generator, side: int) -> np.ndarray:
    height, width = photo_HWC.shape[:2]
    wanted, aspect = side * rng.uniform(*_CROPS), rng.uniform(-0.35, 0.35)
    high = min(height, round(wanted * np.exp(aspect / 2)))
    wide = min(width, round(wanted * np.exp(-aspect / 2)))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    return photo_HWC[top : top + high, left : left + wide]


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    """One colour, or from one to another; white is the commonest."""
    white = np.full(3, 255.0)
    first = white if rng.random() < 0.4 else rng.uniform(0, 255, 3)
    last = first if rng.random() < 0.5 else rng.uniform(0, 255, 3)
    share = np.linspace(0, 1, size)[:, None]
    line = (first * (1 - share) + last * share)[:, None] * np.ones((1, size, 1))
    if rng.random() < 0.5:
        line = line.swapaxes(0, 1)
    return line.round().astype(np.uint8)


def _varied(pixels_HWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        pixels_HWC = pixels_HWC[:, ::-1]
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    if rng.random() < 0.6:
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.3))
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.4))
        image = ImageEnhance.Color(image).enhance(rng.uniform(0.3, 1.5))
    if rng.random() < 0.08:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.UnsharpMask(1, int(rng.integers(50, 150)), 0))
    return np.asarray(image)
