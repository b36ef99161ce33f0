"""The built-in shop: an endless stock of rendered garments with Korean texts, from a seed.

An item is a pure function of (seed, split, index): whatever range is generated, on however many
processes, item 7 is item 7.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, get_args

from PIL import Image, ImageChops

from kmm_jax.data.shop import english
from kmm_jax.data.shop.asking import ask
from kmm_jax.data.shop.backgrounds import BACKGROUNDS
from kmm_jax.data.shop.combinations import Split, further, garment, pair_of
from kmm_jax.data.shop.ensembles import write_several
from kmm_jax.data.shop.scene import Picture, Scene, paint
from kmm_jax.data.shop.vocabulary import KINDS
from kmm_jax.data.shop.wording import visible_attributes, write
from kmm_jax.errors import ConfigError

_WHITE = 250
_SIZES = (32, 1024)


@dataclass(frozen=True, kw_only=True)
class ShopConfig:
    """A stretch of the shop's stock: the first ``items`` of a split.

    ``image_size`` is the side in pixels, 32 to 1024; ``several_share`` is the share of pictures
    with two or three garments, 0 to 1. ``english`` adds ``caption_en`` and ``query_en`` to the
    records, ``questions`` questions with their answers, ``attributes`` the field ``items`` with
    each garment's category and visible attributes; all else stays the same.

    Raises:
        ConfigError: a value out of its range.
    """

    items: int
    seed: int
    image_size: int = 96
    split: Split
    several_share: float = 0.2
    english: bool = False
    questions: bool = False
    attributes: bool = False

    def __post_init__(self) -> None:
        if self.items < 0:
            raise ConfigError(f"the shop cannot have {self.items} items; ask for 0 or more")
        if not _SIZES[0] <= self.image_size <= _SIZES[1]:
            raise ConfigError(
                f"the shop draws pictures of {_SIZES[0]} to {_SIZES[1]} pixels a side, "
                f"not image_size={self.image_size}"
            )
        if self.split not in get_args(Split):
            raise ConfigError(f"the shop has the splits train and test, not {self.split!r}")
        if not 0.0 <= self.several_share <= 1.0:
            raise ConfigError(f"several_share={self.several_share} is no share; give 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Item:
    """A row: its record (the fields of slide 2.3), the picture as drawn, and the stored JPEG."""

    record: dict[str, Any]
    image: Image.Image
    jpeg: bytes


def generate(config: ShopConfig) -> Iterator[Item]:
    """The items of a split in order, from 0 to ``config.items``."""
    for index in range(config.items):
        yield render_item(config, index)


def _stream(config: ShopConfig, index: int, purpose: str) -> Random:
    """Random numbers of their own for each purpose, so that one does not disturb the other."""
    return Random(f"shop/{config.seed}/{config.split}/{index}/{purpose}")


def scene_of(config: ShopConfig, index: int) -> Scene:
    """What item ``index`` shows."""
    rng = _stream(config, index, "scene")
    garments = [garment(*pair_of(config.seed, config.split, index), config.split, rng)]
    if rng.random() < config.several_share:
        for _ in range(rng.choice((1, 2))):
            garments.append(further(garments, config.split, rng))
    return Scene(garments=tuple(garments), background=rng.choice(tuple(BACKGROUNDS)))


def picture_of(config: ShopConfig, index: int) -> Picture:
    """Item ``index`` painted, with the masks of its garments."""
    rng = _stream(config, index, "picture")
    return paint(scene_of(config, index), config.image_size, rng)


def render_item(config: ShopConfig, index: int) -> Item:
    """Item ``index`` whole: picture, texts, record. It does not depend on ``config.items``."""
    scene, picture = scene_of(config, index), picture_of(config, index)
    rng = _stream(config, index, "wording")
    if len(scene.garments) == 1:
        wording = write(scene.garments[0], scene.background, rng)
    else:
        wording = write_several(scene.garments, scene.background, rng)
    buffer = io.BytesIO()
    # Chroma at full resolution: at this size, halved chroma would wash out small motifs.
    picture.image.save(buffer, "JPEG", quality=90, subsampling=0)
    jpeg = buffer.getvalue()
    record: dict[str, Any] = {
        "image_hash": hashlib.sha256(jpeg).hexdigest()[:20],
        "image_url": f"shop://{config.seed}/{config.split}/{index}",
        "image_size": [config.image_size, config.image_size],
        **asdict(wording),
        # No similarity model has scored these texts; an invented score would be a lie.
        "title_kelip_score": None,
        "query_kelip_score": [None] * len(wording.query),
        "image_white_pixel_ratio": _white_ratio(picture.image),
        "watermark_score": 0.0,
        "ocr_num_box": 0,
        "ocr_ratio_box": 0.0,
        "boxes": [
            {"box": list(box), "type": g.kind, "color": g.colour, "pattern": g.pattern}
            for g, box in zip(scene.garments, picture.boxes, strict=True)
        ],
        "source": "shop",
    }
    if len(scene.garments) == 1:
        only = scene.garments[0]
        record["labels"] = {"type": only.kind, "color": only.colour, "pattern": only.pattern}
    if config.english:
        rng = _stream(config, index, "english")
        record["caption_en"] = english.caption(scene.garments, rng)
        record["query_en"] = english.queries(scene.garments, rng)
    if config.questions:
        record["questions"] = ask(
            scene.garments,
            picture.boxes,
            side=config.image_size,
            split=config.split,
            rng=_stream(config, index, "questions"),
        )
    if config.attributes:
        record["items"] = [
            {"category": KINDS[one.kind].category, "attributes": visible_attributes(one)}
            for one in scene.garments
        ]
    return Item(record=record, image=picture.image, jpeg=jpeg)


def _white_ratio(image: Image.Image) -> float:
    """The share of pixels that are white, or nearly, in every channel."""
    red, green, blue = image.split()
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    return sum(darkest.histogram()[_WHITE:]) / (image.width * image.height)
