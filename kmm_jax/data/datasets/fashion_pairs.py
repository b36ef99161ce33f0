"""A closed world inside the shop: ten types in eight colours, and pairs of the two to hold out.

Small generators are shown what they have to compose: a type, a colour. A pair that is held out asks
for what was never said together, of words that were.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from kmm_jax.data.datasets.fashion_wording import Product
from kmm_jax.errors import DataError

Pair = tuple[str, str]
"""articleType and baseColour, as the published table spells them."""

TYPES = (
    "Tshirts",
    "Shirts",
    "Sweaters",
    "Casual Shoes",
    "Heels",
    "Flip Flops",
    "Handbags",
    "Wallets",
    "Watches",
    "Sunglasses",
)
"""Types with photos in most of the colours, and as unlike one another as the table has them."""

COLORS = ("Black", "White", "Grey", "Brown", "Blue", "Red", "Green", "Pink")
"""Colours with one plain word in either language, told apart at a glance."""

_TRIES = 1000


def count_pairs(products: Iterable[Product]) -> Counter[Pair]:
    """How many products each of the 80 pairs has; pairs without any are absent."""
    pairs = ((product.type, product.color) for product in products)
    return Counter(pair for pair in pairs if pair[0] in TYPES and pair[1] in COLORS)


def frequent_pairs(counts: Mapping[Pair, int], least: int = 5) -> list[Pair]:
    """The pairs with ``least`` products or more, by type and colour."""
    return [(type_, color) for type_ in TYPES for color in COLORS if counts[type_, color] >= least]


def held_out_pairs(
    counts: Mapping[Pair, int], *, number: int = 16, least: int = 5
) -> tuple[Pair, ...]:
    """``number`` pairs with ``least`` products each, spread evenly; the same for the same counts.

    Of each colour, and of each type, as few pairs are held out as the number allows (two of 16),
    and never more than half of those that are frequent: what is left says every type in several
    colours and every colour on many types.

    Raises:
        DataError: the products do not have so many such pairs.
    """
    frequent = frequent_pairs(counts, least)
    most = {
        name: min(-(-number // len(side)), sum(name in pair for pair in frequent) // 2)
        for side in (TYPES, COLORS)
        for name in side
    }
    for attempt in range(_TRIES):
        taken: list[Pair] = []
        used: Counter[str] = Counter()
        for pair in sorted(frequent, key=lambda pair: _lot(attempt, pair)):
            if len(taken) < number and all(used[name] < most[name] for name in pair):
                taken.append(pair)
                used.update(pair)
        if len(taken) == number:
            return tuple(pair for pair in frequent if pair in taken)
    raise DataError(
        f"no {number} pairs of type and colour with {least} products each can be held out evenly: "
        f"{len(frequent)} of {len(TYPES) * len(COLORS)} pairs have as many; hold out fewer, or "
        "ask for fewer products of each"
    )


def _lot(attempt: int, pair: Pair) -> bytes:
    return hashlib.sha256(f"{attempt}/{pair[0]}/{pair[1]}".encode()).digest()
