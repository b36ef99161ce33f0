"""Documents of real product photos: the test part of Fashion Product Images (Small).

Its photos are in no training data of this library's recipes. Some are kept back to search with;
the others are listings of one photo, or posts of two or three. Texts are worded from the table's
attributes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from kmm_jax.data.datasets.catalog import DATASETS, open_rows
from kmm_jax.demo.facts import Entry, Facts, Lexicon, Pictured, World
from kmm_jax.text.classnames import class_set

NAME = "fashion_products"
_KEYS = ("type", "color", "gender", "usage", "season")
_VISIBLE = ("type", "color", "gender")
_KEPT_BACK = 6  # every so-manyth photo
_POSTS = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Product:
    facts: Facts
    photo: bytes


def lexicon() -> Lexicon:
    """The words for the table's values."""
    words = {}
    for key in _KEYS:
        classes = class_set(DATASETS[NAME].class_sets[key])
        rows = zip(classes.ko, classes.synonyms, strict=True)
        words[key] = {name: (name, *others) for name, others in rows}
    return Lexicon(words=words)


def products(folder: Path | None, *, documents: int | None = None) -> World:
    """A world of the test part.

    Args:
        folder: where it lies; by default ``KMM_DATA_DIR``.
        documents: at most so many.

    Raises:
        DataError: it is not there.
    """
    found = [_product(record, image) for record, image in open_rows(NAME, folder, "test")]
    usable = [one for one in found if {"type", "color"} <= one.facts.keys()]
    kept_back = usable[::_KEPT_BACK]
    shown = [one for number, one in enumerate(usable) if number % _KEPT_BACK]
    entries = list(_entries(shown))
    return World(
        name="product",
        lexicon=lexicon(),
        entries=entries[:documents],
        pictures=[
            Pictured(
                facts={key: value for key, value in one.facts.items() if key in _VISIBLE},
                photo=functools.partial(_photo, one),
            )
            for one in kept_back
        ],
        visible=_VISIBLE,
        told=("season", "usage"),
    )


def _product(record: dict[str, Any], image: bytes) -> _Product:
    facts = {}
    for key in _KEYS:
        if value := record["labels"].get(key):
            classes = class_set(DATASETS[NAME].class_sets[key])
            facts[key] = classes.ko[classes.index(value)]
    if patterns := record["attributes"].get("패턴"):
        facts["pattern"] = patterns[0]
    return _Product(facts=facts, photo=image)


def _photo(one: _Product) -> bytes:
    return one.photo


def _entries(shown: Sequence[_Product]) -> Iterator[Entry]:
    rng = Random("demo/products")
    place = 0
    while place < len(shown):
        kind = "post" if rng.random() < _POSTS else "listing"
        some = shown[place : place + (rng.choice((2, 3)) if kind == "post" else 1)]
        place += len(some)
        yield Entry(
            things=tuple(one.facts for one in some),
            photos=tuple(one.photo for one in some),
            kind=kind,
        )
