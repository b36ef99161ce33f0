"""The style tokens of Prompt-CoCa: which kind of text a sequence holds (the talk, slide 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from kmm_jax.errors import UserError, nearest

Style = Literal["prompt", "query", "shopping"]

STYLES: tuple[Style, ...] = get_args(Style)

FIELD_STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "title": "prompt",
        "caption": "prompt",
        "caption_en": "prompt",
        "query": "query",
        "query_en": "query",
        "product_name": "shopping",
        "attributes": "shopping",
        "statements": "shopping",
    }
)
"""The style of each text field of a row (slide 3.2)."""


def style_of(field: str) -> Style:
    """The style of the record field ``field``, such as ``"title"`` or ``"query"``.

    Raises:
        UserError: the field holds no text.
    """
    try:
        return FIELD_STYLES[field]
    except KeyError:
        raise UserError(
            f"no text style for field {field!r}{nearest(field, FIELD_STYLES)}"
        ) from None
