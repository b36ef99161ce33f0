"""The built-in data of the quickstart: a Korean clothes shop, drawn and worded from a seed."""

from kmm_jax.data.shop.shop import Item, ShopConfig, generate, render_item
from kmm_jax.data.shop.vocabulary import (
    ADJECTIVE_TEMPLATES,
    COLOURS,
    PATTERNS,
    TEMPLATES,
    TYPES,
)
from kmm_jax.data.shop.writing import write_shop

__all__ = [
    "ADJECTIVE_TEMPLATES",
    "COLOURS",
    "PATTERNS",
    "TEMPLATES",
    "TYPES",
    "Item",
    "ShopConfig",
    "generate",
    "render_item",
    "write_shop",
]
