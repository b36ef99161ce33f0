"""Small pictures for the page, as JPEG inside it."""

from __future__ import annotations

import base64
import collections
import io
from collections.abc import Iterable

from PIL import Image

from kmm_jax.corpus import sources
from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.report.layout import Layout
from kmm_jax.corpus.report.samples import Row
from kmm_jax.data.images import open_rgb
from kmm_jax.errors import DataError

SIDE = 128
"""Pixels of the longer side, at most."""

_QUALITY = 78

Place = tuple[int, int, int]
"""Number of the file, and where the picture is in it."""


def place_of(row: Row) -> Place:
    """Where a row's picture is."""
    return (row["file"], *row["place"])


def read(config: CorpusConfig, layout: Layout, rows: Iterable[Row]) -> dict[Place, str]:
    """A data URL for each row's picture; one that is gone or cannot be decoded is left out."""
    of_files: dict[int, set[tuple[int, int]]] = collections.defaultdict(set)
    for row in rows:
        of_files[row["file"]].add((row["place"][0], row["place"][1]))
    found: dict[Place, str] = {}
    for number, places in sorted(of_files.items()):
        file = layout.pictures[number]
        source, ordered = config.images[file.source], sorted(places)
        try:
            pictures = sources.pictures_at(source, file.path, ordered)
            for place, data in zip(ordered, pictures, strict=True):
                if url := _data_url(data):
                    found[number, *place] = url
        except (DataError, OSError):
            continue  # the raw file may be gone by the time a report is made again
    return found


def _data_url(data: bytes | None) -> str | None:
    try:
        small: Image.Image = open_rgb(data or b"", SIDE)
    except DataError:
        return None
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
