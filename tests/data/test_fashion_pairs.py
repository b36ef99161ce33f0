"""Which of 80 pairs of type and colour have products, and which are held out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kmm_jax.data.datasets.fashion_pairs import (
    COLORS,
    TYPES,
    count_pairs,
    frequent_pairs,
    held_out_pairs,
)
from kmm_jax.data.datasets.fashion_products import products
from kmm_jax.data.datasets.fashion_wording import Product
from kmm_jax.errors import DataError


def item(type_: str, color: str) -> Product:
    return Product(
        gender="Men",
        master_category="",
        sub_category="",
        type=type_,
        color=color,
        season="",
        year="",
        usage="",
        display_name="",
    )


def test_only_pairs_of_the_closed_world_are_counted() -> None:
    items = [item("Watches", "Red")] * 5 + [item("Watches", "Teal"), item("Sarees", "Red")]
    counts = count_pairs([*items, item("Tshirts", "Blue")])
    assert counts == {("Watches", "Red"): 5, ("Tshirts", "Blue"): 1}
    assert frequent_pairs(counts) == [("Watches", "Red")]
    assert frequent_pairs(counts, 1) == [("Tshirts", "Blue"), ("Watches", "Red")]


def test_held_out_pairs_are_spread_and_do_not_depend_on_the_order_of_products() -> None:
    every = [(type_, color) for type_ in TYPES for color in COLORS]
    held_out = held_out_pairs(Counter(dict.fromkeys(every, 9)))
    assert held_out == held_out_pairs(Counter(dict.fromkeys(reversed(every), 9)))
    assert len(set(held_out)) == 16
    assert set(Counter(color for _, color in held_out).values()) == {2}
    assert max(Counter(type_ for type_, _ in held_out).values()) == 2


def test_too_few_pairs_are_said() -> None:
    counts = Counter({("Watches", color): 9 for color in COLORS})
    with pytest.raises(DataError, match="8 of 80 pairs have as many"):
        held_out_pairs(counts)


def test_most_pairs_of_the_real_shop_have_five_products(shared_data: Path) -> None:
    counts = count_pairs(products(shared_data))
    frequent = frequent_pairs(counts)
    assert len(frequent) >= 70 and len(frequent_pairs(counts, 10)) >= 50
    held_out = held_out_pairs(counts)
    left = set(frequent) - set(held_out)
    assert len(held_out) == 16 and all(counts[pair] >= 5 for pair in held_out)
    for name in (*TYPES, *COLORS):
        assert sum(name in pair for pair in left) >= 4, name
