"""What the study learns from and is asked: rows with labels, long-tailed, and a test that is not.

N rows, G groups of labels, S pixels along a side.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.data.datasets.fashion_products import photos
from kmm_jax.data.datasets.photos import hash_of
from kmm_jax.data.shop.shop import ShopConfig, picture_of, scene_of
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY
from kmm_jax.errors import DataError
from kmm_jax.files import atomic_write
from kmm_jax.text.classnames import class_set

SIZE = 32
"""Pixels along a side."""

TRAIN, VALIDATION, TEST, UNUSED = 0, 1, 2, 3

_SHOP_COLOURS = (
    *("black", "white", "gray", "navy", "blue", "beige", "brown"),
    *("red", "green", "pink", "skyblue", "yellow", "purple", "orange"),
)
_SHOP_PATTERNS = ("solid", "stripe", "check", "dot", "floral", "zigzag", "star", "heart")
"""The commonest first: the order of real clothes, as far as the product photos tell it."""

CLOTHES = (
    *("tshirt", "shirt", "knit", "hoodie", "jacket", "coat", "vest"),
    *("dress", "skirt", "trousers", "shorts"),
)
"""What is worn: the slide's tagger is for 의류."""

_RATIOS = {"color": 40.0, "pattern": 20.0}
_LEAST_PHOTOS = 25
_MOST_TESTED = 40
_APPAREL = "Apparel"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Labels of which a picture has one.

    Attributes:
        keys: as the data has them, the commonest in training first.
        names: in Korean; what prompts say.
    """

    name: str
    keys: tuple[str, ...]
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Labelled pictures.

    Attributes:
        images: (N, S, S, 3) uint8.
        labels: (N, G) the number of each group's label.
        types: (N,) Korean names of what is shown; no label, but said in prompts.
        parts: (N,) TRAIN, VALIDATION, TEST or UNUSED.
        said: how the rows were chosen.
    """

    name: str
    groups: tuple[Group, ...]
    images: np.ndarray
    labels: np.ndarray
    types: np.ndarray
    parts: np.ndarray
    said: str

    def rows(self, part: int) -> np.ndarray:
        """The numbers of one part's rows."""
        return np.flatnonzero(self.parts == part)

    def counts(self, part: int = TRAIN) -> list[np.ndarray]:
        """How many rows of a part have each label, by group."""
        labels = self.labels[self.parts == part]
        return [
            np.bincount(labels[:, place], minlength=len(group.keys))
            for place, group in enumerate(self.groups)
        ]

    def prompt(self, labels: Sequence[int], type_: str) -> str:
        """What a generator is told: 보라색 하트무늬 티셔츠."""
        words = (group.names[label] for group, label in zip(self.groups, labels, strict=True))
        return " ".join((*words, type_))


def shop(work: Path, *, rows: int = 1200, seed: int = 0) -> World:
    """The shop's clothes with a forced long tail of colours and of patterns; tested on all alike.

    A colour's share falls exponentially, and a pattern's, and both are drawn apart: the rarest of
    one with the rarest of the other hardly occurs. The test is of the shop's test split, whose
    (type, colour, pattern) no training row has; validation shows each type in each colour twice.
    """
    config = ShopConfig(items=0, seed=seed, image_size=SIZE, split="train", several_share=0.0)
    colours, patterns = _SHOP_COLOURS, _SHOP_PATTERNS
    wanted = _quotas(rows)
    each = len(KINDS) * len(colours)  # items in which each type has each colour once
    chosen: list[tuple[ShopConfig, int, int]] = []
    for other, rounds, part in (
        (dataclasses.replace(config, seed=seed + 1), 2, VALIDATION),
        (dataclasses.replace(config, split="test"), 8, TEST),
    ):
        chosen += [
            (other, index, part)
            for index in range(rounds * each)
            if scene_of(other, index).garments[0].kind in CLOTHES
        ]
    index = 0
    while wanted.sum():
        (only,) = scene_of(config, index).garments
        place = colours.index(only.colour), patterns.index(only.pattern)
        if only.kind in CLOTHES and wanted[place]:
            wanted[place] -= 1
            chosen.append((config, index, TRAIN))
        index += 1

    def make() -> dict[str, np.ndarray]:
        images, labels, types = [], [], []
        for config, index, _ in chosen:
            (only,) = scene_of(config, index).garments
            images.append(np.asarray(picture_of(config, index).image))
            labels.append((colours.index(only.colour), patterns.index(only.pattern)))
            types.append(KINDS[only.kind].ko)
        return {
            "images": np.stack(images),
            "labels": np.asarray(labels),
            "types": np.asarray(types),
            "parts": np.asarray([part for *_, part in chosen]),
        }

    return World(
        name="shop",
        groups=(
            Group(name="color", keys=colours, names=_names(COLOURS_BY_KEY, colours)),
            Group(name="pattern", keys=patterns, names=_names(PATTERNS_BY_KEY, patterns)),
        ),
        **_kept(work / f"shop-{rows}-{seed}.npz", make),
        said=(
            f"{rows:,} training pictures of clothes, one each; the share of a colour falls "
            f"exponentially to 1/{_RATIOS['color']:.0f} of the commonest one's, that of a pattern "
            f"to 1/{_RATIOS['pattern']:.0f}, independently of each other"
        ),
    )


def _names(table: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(table[key].ko for key in keys)


def _quotas(rows: int) -> np.ndarray:
    """Rows of each (colour, pattern); they add up to ``rows``, shares drawn fairly from a seed."""

    def shares(count: int, ratio: float) -> np.ndarray:
        found: np.ndarray = ratio ** (-np.arange(count) / (count - 1))
        return found / found.sum()

    pairs = np.outer(
        shares(len(_SHOP_COLOURS), _RATIOS["color"]),
        shares(len(_SHOP_PATTERNS), _RATIOS["pattern"]),
    )
    # Systematic sampling: every pair has its expected number, up or down to a whole one.
    points = (np.arange(rows) + 0.5) / rows
    found = np.bincount(np.searchsorted(np.cumsum(pairs), points), minlength=pairs.size)
    return found.reshape(pairs.shape)


def products(work: Path, data: Path, *, rows: int | None = None) -> World:
    """Real photos of clothes with the colours that a shop gives them, naturally long-tailed.

    Colours of 25 photos or more. Of each colour half are tested, 40 at most, so that rare colours
    count nearly as much as common ones; an eighth of the rest, 10 at most, is for validation. A
    photo whose small picture is tested is not learned from under another number.

    Args:
        rows: of training, the first so many; None for all.
    """
    names = class_set("fashion_colours")
    known = class_set("fashion_article_types")
    korean_types = dict(zip(known.keys, known.ko, strict=True))
    found = [
        photo
        for photo in photos(data)
        if photo.facts.master_category == _APPAREL
        and photo.facts.color in names.keys
        and photo.facts.type in korean_types
    ]
    by_colour: dict[str, list[int]] = {}
    for number in sorted(range(len(found)), key=lambda one: hash_of(found[one].name.encode())):
        by_colour.setdefault(found[number].facts.color, []).append(number)
    common = sorted(
        (key for key, members in by_colour.items() if len(members) >= _LEAST_PHOTOS),
        key=lambda key: -len(by_colour[key]),
    )
    if len(common) < 3:
        raise DataError(f"{data}: only {len(common)} colours have {_LEAST_PHOTOS} photos")
    chosen: list[tuple[int, int, int]] = []
    for label, key in enumerate(common):
        members = by_colour[key]
        tests = min(_MOST_TESTED, len(members) // 2)
        validations = min(10, max(1, (len(members) - tests) // 8))
        parts = [TEST] * tests + [VALIDATION] * validations
        parts += [TRAIN] * (len(members) - len(parts))
        chosen += [(number, label, part) for number, part in zip(members, parts, strict=True)]
    if rows is not None:
        training = [one for one in chosen if one[2] == TRAIN]
        kept = set(Random(0).sample(training, min(rows, len(training))))
        chosen = [one for one in chosen if one[2] != TRAIN or one in kept]

    def make() -> dict[str, np.ndarray]:
        images = []
        for number, _, _ in chosen:
            with Image.open(io.BytesIO(found[number].read())) as opened:
                picture = opened.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            images.append(np.asarray(picture))
        return {
            "images": np.stack(images),
            "labels": np.asarray([[label] for _, label, _ in chosen]),
            "types": np.asarray([korean_types[found[number].facts.type] for number, *_ in chosen]),
            "parts": _without_copies(np.stack(images), np.asarray([part for *_, part in chosen])),
        }

    group = Group(
        name="color",
        keys=tuple(common),
        names=tuple(names.ko[names.index(key)] for key in common),
    )
    arrays = _kept(work / f"products-{len(chosen)}.npz", make)
    counts = np.bincount(arrays["labels"][arrays["parts"] == TRAIN, 0], minlength=len(common))
    return World(
        name="products",
        groups=(group,),
        **arrays,
        said=(
            f"{int(counts.sum()):,} training photos of clothes; the commonest colour has "
            f"{counts.max():,}, the rarest {counts.min():,}"
        ),
    )


def _without_copies(images: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The parts of rows, where a picture that is tested is not learned from as well."""
    found = parts.copy()
    seen: set[bytes] = set()
    for row in np.argsort(-parts, kind="stable"):  # what is tested first
        content = images[row].tobytes()
        if content in seen:
            found[row] = UNUSED
        seen.add(content)
    return found


def _kept(file: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that are made once."""
    if not file.is_file():
        arrays = make()
        with atomic_write(file) as place:
            np.savez(place, **arrays)
    with np.load(file, allow_pickle=False) as opened:
        return {name: opened[name] for name in opened.files}
