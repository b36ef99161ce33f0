"""Seeded draws that are the same on every Python: only ``Random.random`` is promised to be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import TypeVar

from kmm_jax.text.normalize import normalize
from kmm_jax.text.templates import fill_slots, slots

T = TypeVar("T")


def pick(rng: Random, items: Sequence[T]) -> T:
    """One of ``items``."""
    return items[int(rng.random() * len(items))]


def shuffled(rng: Random, items: Collection[T]) -> list[T]:
    """All ``items`` in a random order."""
    return [
        item for _, item in sorted(((rng.random(), item) for item in items), key=lambda p: p[0])
    ]


def sentence(rng: Random, templates: Sequence[str], words: Mapping[str, str]) -> str:
    """One of the templates whose every slot has a word, filled; one must need few words."""
    fitting = [template for template in templates if slots(template) <= words.keys()]
    return normalize(fill_slots(pick(rng, fitting), words))


def queries(
    rng: Random, templates: Sequence[str], words: Mapping[str, str], most: int
) -> tuple[list[str], list[int]]:
    """1 to ``most`` different queries and how often each was asked, the most frequent first.

    Counts have a long tail, as clicks do: most are 1 to 5, a few near 60.
    """
    fitting = [template for template in templates if slots(template) <= words.keys()]
    texts = [normalize(fill_slots(template, words)) for template in shuffled(rng, fitting)]
    several = list(dict.fromkeys(texts))[: 1 + int(rng.random() * most)]
    counts = sorted((1 + int(60 * rng.random() ** 4) for _ in several), reverse=True)
    return several, counts
