"""Statements about a thing in a picture: one attribute of it as a sentence (slide 3.1).

A picture shows items, each of a category and with attributes. The record says so in ``items``::

    "items": [{"category": "패션잡화|신발|여성구두", "attributes": {"토스타일": "라운드 토"}}, ...]

or, where it shows one, by its fields ``category`` and ``attributes``. What is asked is a picture
with the name of a category, of any depth, or with none; what is stated is true of an item in it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmm_jax.text.normalize import normalize
from kmm_jax.text.templates import fill_slots

STATEMENTS = "statements"
"""The field of statements, among ``data.fields``."""

KNOWN = 48
"""Most statements known to be true that a batch holds for an example."""

TEMPLATES: tuple[str, ...] = (
    "이 상품의 {key:은/는} {value}입니다",
    "{key:이/가} {value}인 상품",
    "{key} {value}",
    "{value}",
)
"""How an attribute is worded; the first is the slide's."""


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """A key and a value, such as 토스타일 and 라운드 토."""

    key: str
    value: str

    def sentence(self, template: str = TEMPLATES[0]) -> str:
        """It in words, with the right particles."""
        return fill_slots(template, {"key": self.key, "value": self.value})

    @property
    def code(self) -> int:
        """What stands for it in a batch: an int32, never 0."""
        return text_code(f"{self.key}\t{self.value}")


@dataclass(frozen=True, kw_only=True)
class DescribedItem:
    """One thing in a picture: the levels of its category, the general first, and its attributes."""

    levels: tuple[str, ...]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A sentence that is true of the items in the picture that fall under ``category``.

    Attributes:
        category: what is asked with the picture; empty for the picture alone.
        known: codes of all that is known to be true of those items, its own among them.
    """

    text: str
    category: str
    attribute: Attribute
    known: tuple[int, ...]


@dataclass(frozen=True)
class Described:
    """All items of a picture."""

    items: tuple[DescribedItem, ...]

    def categories(self) -> tuple[str, ...]:
        """The names of all levels of all items, each once."""
        return tuple(dict.fromkeys(level for item in self.items for level in item.levels))

    def attributes(self, category: str = "") -> tuple[Attribute, ...]:
        """What is true of the items under a category; of all items where it is empty."""
        chosen = [item for item in self.items if not category or category in item.levels]
        return tuple(dict.fromkeys(one for item in chosen for one in item.attributes))

    def draw(self, rng: np.random.Generator, *, alone: float) -> Statement:
        """A statement with what is asked: an item, a level of its category, one of its keys.

        Args:
            alone: the share of pictures that are asked without a category.
        """
        item = self.items[int(rng.integers(len(self.items)))]
        depth = int(rng.integers(len(item.levels))) if item.levels else 0
        category = item.levels[depth] if item.levels and rng.random() >= alone else ""
        keys = sorted({one.key for one in item.attributes})
        key = keys[int(rng.integers(len(keys)))]
        values = [one for one in item.attributes if one.key == key]
        attribute = values[int(rng.integers(len(values)))]
        return self.state(attribute, category, TEMPLATES[int(rng.integers(len(TEMPLATES)))])

    def first(self) -> Statement:
        """The first attribute of the first item, asked with the last level of its category."""
        item = self.items[0]
        return self.state(item.attributes[0], item.levels[-1] if item.levels else "")

    def state(self, attribute: Attribute, category: str, template: str = TEMPLATES[0]) -> Statement:
        """An attribute that is true under a category, as a statement."""
        known = [one.code for one in self.attributes(category) if one != attribute]
        return Statement(
            text=attribute.sentence(template),
            category=category,
            attribute=attribute,
            known=(attribute.code, *known[: KNOWN - 1]),
        )


def described(record: Mapping[str, Any]) -> Described | None:
    """What a validated record says of the items in its picture; None where it says nothing."""
    entries: Sequence[Mapping[str, Any]] = record.get("items") or [record]
    items = tuple(
        DescribedItem(levels=levels_of(entry.get("category")), attributes=attributes)
        for entry in entries
        if (attributes := attributes_of(entry.get("attributes") or {}))
    )
    return Described(items) if items else None


def levels_of(category: str | Sequence[str] | None) -> tuple[str, ...]:
    """The levels of a category: ``"패션잡화|신발|여성구두"``, or a list of names."""
    names = category.split("|") if isinstance(category, str) else category or ()
    return tuple(dict.fromkeys(name for each in names if (name := normalize(each))))


def attributes_of(values: Mapping[str, Any]) -> tuple[Attribute, ...]:
    """A record's attributes one by one, in its order; a list of values makes several."""
    found = []
    for key, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            name, words = normalize(str(key)), normalize(str("" if each is None else each))
            if name and words:
                found.append(Attribute(key=name, value=words))
    return tuple(dict.fromkeys(found))


def text_code(text: str) -> int:
    """An int32 for a text, the same everywhere, never 0."""
    return int(np.uint32(zlib.crc32(text.encode())).astype(np.int32)) or 1
