"""Which (type, colour, pattern) a split may show, and which one an item shows.

Of the patterns of every (type, colour) one is held out for the test split, by a hash that depends
on no seed. So a test image always shows a combination that no training image of any shop shows,
while each type, colour, pattern and (type, colour) is met in training.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from random import Random
from typing import Literal

from kmm_jax.data.shop.dyes import INKS
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY, Garment

Split = Literal["train", "test"]

HELD_OUT_PATTERNS = 1
_PAIRS = tuple((kind, colour) for kind in KINDS for colour in COLOURS_BY_KEY)


@functools.cache
def held_out(kind: str, colour: str) -> frozenset[str]:
    """The patterns that a ``kind`` in this ``colour`` has in the test split alone."""

    def rank(pattern: str) -> bytes:
        return hashlib.sha256(f"{kind}/{colour}/{pattern}".encode()).digest()

    return frozenset(sorted(PATTERNS_BY_KEY, key=rank)[:HELD_OUT_PATTERNS])


@functools.cache
def allowed(kind: str, colour: str, split: Split) -> tuple[str, ...]:
    """The patterns that a ``kind`` in this ``colour`` may have in ``split``."""
    test = held_out(kind, colour)
    return tuple(p for p in PATTERNS_BY_KEY if (p in test) == (split == "test"))


@functools.lru_cache(maxsize=4)
def _round(seed: int, split: Split, number: int) -> tuple[tuple[str, str], ...]:
    pairs = list(_PAIRS)
    Random(f"shop/{seed}/{split}/round {number}").shuffle(pairs)
    return tuple(pairs)


def pair_of(seed: int, split: Split, index: int) -> tuple[str, str]:
    """The (type, colour) of an item's first garment.

    Every len(TYPES) x len(COLOURS) items in a row hold each pair once, in an order of their own.
    """
    return _round(seed, split, index // len(_PAIRS))[index % len(_PAIRS)]


def garment(kind: str, colour: str, split: Split, rng: Random) -> Garment:
    """A garment of this type and colour, with a pattern that the split allows."""
    patterns = allowed(kind, colour, split)
    # Most clothes are plain, and on plain cloth a cut is learned soonest.
    weights = [3 if pattern == "solid" else 1 for pattern in patterns]
    pattern = rng.choices(patterns, weights)[0]
    ink = None if pattern == "solid" else rng.choice(INKS[colour])
    attributes = {key: rng.choice(values) for key, values in KINDS[kind].options}
    return Garment(kind=kind, colour=colour, pattern=pattern, ink=ink, attributes=attributes)


def further(garments: Sequence[Garment], split: Split, rng: Random) -> Garment:
    """One more garment for the same picture, of another type."""
    shown = {other.kind for other in garments}
    kind = rng.choice([key for key in KINDS if key not in shown])
    return garment(kind, rng.choice(tuple(COLOURS_BY_KEY)), split, rng)
