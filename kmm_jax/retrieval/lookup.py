"""From a hit back to its row in the source: the picture and a text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.data.images import open_rgb
from kmm_jax.data.schema import texts
from kmm_jax.data.sources import Row, Source
from kmm_jax.errors import DataError
from kmm_jax.retrieval.sheet import Hit

_CAPTION_FIELDS = ("product_name", "title", "caption", "query")
_THUMBNAIL = 320


class RowLookup:
    """Finds rows of the source that embeddings were made of.

    An id's place in the index is its row's place in the source, less the rows that were left out
    before it. How many were left out of each part is known, so few rows need to be read.

    Args:
        spans: ``(start, stop, kept)`` of each part, as ``Embeddings.spans``.
    """

    def __init__(self, source: Source, spans: Sequence[Sequence[int]]) -> None:
        self._source = source
        self._spans = [(int(a), int(b), int(c)) for a, b, c in spans]
        self._ends = np.cumsum([kept for _, _, kept in self._spans])

    def row(self, id: str, place: int) -> Row | None:
        """The row with the key ``id`` at ``place`` in the index; None if the source changed."""
        part = int(np.searchsorted(self._ends, place, side="right"))
        if part >= len(self._spans):
            return None
        start, stop, kept = self._spans[part]
        first = start + place - (int(self._ends[part]) - kept)
        left_out = stop - start - kept
        for number in range(first, min(first + left_out + 1, stop, len(self._source))):
            try:
                row = self._source.read(number)
            except DataError:
                continue
            if row.key == id:
                return row
        return None


def hits_with_rows(
    lookup: RowLookup | None,
    ids: Sequence[str],
    places: Sequence[int],
    scores: Sequence[float],
) -> list[Hit]:
    """Hits for a contact sheet; without its row, a hit has no image and its id for a caption."""
    hits = []
    for each, place, score in zip(ids, places, scores, strict=True):
        row = lookup.row(each, int(place)) if lookup else None
        hits.append(
            Hit(
                image=_thumbnail(row.image) if row else None,
                caption=caption(row.record) or each if row else each,
                score=float(score),
            )
        )
    return hits


def caption(record: dict[str, Any]) -> str:
    """One text of a record for people: its product name, title, caption or query; or none."""
    found = {field: text for field, text, _ in reversed(texts(record))}
    return next((found[field] for field in _CAPTION_FIELDS if field in found), "")


def _thumbnail(data: bytes) -> Image.Image | None:
    try:
        image = open_rgb(data, _THUMBNAIL)
    except DataError:
        return None
    image.thumbnail((2 * _THUMBNAIL, 2 * _THUMBNAIL))
    return image
