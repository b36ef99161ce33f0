"""Example queries with what each way of searching finds first, as one picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from kmm_jax.data.fonts import korean_font, wrap
from kmm_jax.files import atomic_write

_SIDE, _GAP, _MARGIN, _BORDER = 92, 8, 24, 4
_LABEL, _QUERY = 96, 150
_INK, _FAINT = "#1c1c1e", "#76767c"
_GRADES = ("#d0d0d4", "#f0b429", "#7cc47f", "#1f8a3b")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What a way finds.

    Attributes:
        way: its name.
        found: pictures with the grades of their documents, the best first.
    """

    way: str
    found: Sequence[tuple[Image.Image | None, int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A query, its picture if it has one, and a row for each way."""

    text: str
    image: Image.Image | None
    rows: Sequence[Row]


def write_examples(path: Path, examples: Sequence[Example], *, title: str) -> None:
    """Draw examples below each other; the frame of a picture tells its document's grade."""
    title_font, text_font, small_font = korean_font(22), korean_font(16), korean_font(13)
    places = max(len(row.found) for one in examples for row in one.rows)
    width = 2 * _MARGIN + _QUERY + _LABEL + places * (_SIDE + _GAP)
    heights = [len(one.rows) * (_SIDE + _GAP) + 2 * _GAP for one in examples]
    sheet = Image.new("RGB", (width, _MARGIN + 64 + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, font=title_font, fill=_INK)
    _legend(draw, small_font)
    top = _MARGIN + 54
    for one, height in zip(examples, heights, strict=True):
        draw.line((_MARGIN, top - _GAP, width - _MARGIN, top - _GAP), fill="#e4e4e8")
        below = top
        if one.image is not None:
            sheet.paste(_tile(one.image, _SIDE), (_MARGIN, top))
            below += _SIDE + _GAP
        lines = wrap(one.text, text_font, _QUERY - _GAP, 3) if one.text else []
        for number, line in enumerate(lines):
            draw.text((_MARGIN, below + 22 * number), line, font=text_font, fill=_INK)
        for number, row in enumerate(one.rows):
            upper = top + number * (_SIDE + _GAP)
            left = _MARGIN + _QUERY
            draw.text((left, upper + _SIDE // 2 - 8), row.way, font=small_font, fill=_INK)
            for place, (image, grade) in enumerate(row.found):
                at = (left + _LABEL + place * (_SIDE + _GAP), upper)
                sheet.paste(_framed(image, grade), at)
        top += height
    with atomic_write(path) as file:
        sheet.save(file, "PNG", optimize=True)


def _legend(draw: ImageDraw.ImageDraw, font: object) -> None:
    left, top = _MARGIN, _MARGIN + 26
    for grade, name in ((3, "다 맞음 (3)"), (2, "하나 빼고 (2)"), (1, "일부 (1)"), (0, "아님 (0)")):
        draw.rectangle((left, top + 2, left + 12, top + 14), fill=_GRADES[grade])
        draw.text((left + 18, top), name, font=font, fill=_FAINT)  # type: ignore[arg-type]
        left += 110


def _framed(image: Image.Image | None, grade: int) -> Image.Image:
    framed = Image.new("RGB", (_SIDE, _SIDE), _GRADES[grade])
    framed.paste(_tile(image, _SIDE - 2 * _BORDER), (_BORDER, _BORDER))
    return framed


def _tile(image: Image.Image | None, side: int) -> Image.Image:
    """The whole picture in a square; empty where a document has none."""
    if image is None:
        return Image.new("RGB", (side, side), "#f2f2f5")
    return ImageOps.pad(image.convert("RGB"), (side, side), color="#f2f2f5")
