"""A picture of a batch as the model sees it: augmented images with their texts below."""

from __future__ import annotations

import os
from collections.abc import Sequence

from PIL import Image, ImageDraw

from kmm_jax.data.fonts import korean_font, wrap
from kmm_jax.data.pipeline import Example
from kmm_jax.files import atomic_write

_GAP, _FONT, _LINES = 12, 15, 3
_LEAST_WIDTH = 160
_PAPER, _INK, _FAINT = "#ffffff", "#1c1c1e", "#8a8a8e"


def write_sheet(
    path: str | os.PathLike[str], examples: Sequence[Example], columns: int = 4
) -> None:
    """Draw ``examples`` as a PNG: each image, its field, and its text wrapped to three lines."""
    font = korean_font(_FONT)
    side = max(max(one.arrays["image"].shape[0] for one in examples), _LEAST_WIDTH)
    line = round(_FONT * 1.4)
    cell = (side + _GAP, side + (1 + _LINES) * line + 2 * _GAP)
    columns = min(columns, len(examples))
    rows = -(-len(examples) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, example in enumerate(examples):
        left = _GAP + number % columns * cell[0]
        top = _GAP + number // columns * cell[1]
        # Small images are enlarged without smoothing: a pixel stays a pixel.
        image = Image.fromarray(example.arrays["image"]).resize(
            (side, side), Image.Resampling.NEAREST
        )
        sheet.paste(image, (left, top))
        draw.text((left, top + side + 4), example.field, font=font, fill=_FAINT)
        for below, words in enumerate(wrap(str(example.text), font, side, _LINES), start=1):
            draw.text((left, top + side + 4 + below * line), words, font=font, fill=_INK)
    with atomic_write(path) as file:
        sheet.save(file, "PNG")
