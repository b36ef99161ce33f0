"""Heat-maps as a picture: each phrase's over the photo, and all phrases together.

P phrases, G patches along a side, S pixels along a side.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from kmm_jax.data.augment import resize_centre
from kmm_jax.data.fonts import korean_font, wrap
from kmm_jax.errors import UserError
from kmm_jax.evaluation.heat import enlarge, peak, region_box, relative
from kmm_jax.files import atomic_write

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Draw

# Okabe and Ito's colours, which people with any colour vision tell apart.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2", "#f0e442", "#000000")
MOST_PHRASES = len(_COLOURS)

_PAPER, _INK, _FAINT, _MARK = "#ffffff", "#1c1c1e", "#76767c", "#ffffff"
_MARGIN, _GAP, _CHIP, _BAR, _UNDER = 28, 18, 13, 10, 34
_TITLE_LINES, _TITLE_LINE, _LEGEND_LINE = 3, 22, 24
_OVERLAY = 0.62

# Parts of a line in the legend: left, colour, text.
_Line = list[tuple[float, str | None, str]]

_PHOTO, _TOGETHER = "사진", "함께"


@dataclass(frozen=True, kw_only=True)
class HeatPicture:
    """A picture, of which the central square is drawn, and its heat-maps: one a phrase."""

    image: Image.Image
    name: str
    heat_PGG: np.ndarray


def write_heat_sheet(
    path: str | os.PathLike[str],
    phrases: Sequence[str],
    pictures: Sequence[HeatPicture],
    *,
    floor: float = 0.5,
    side: int = 240,
) -> None:
    """Draw a line for each picture: the photo, each phrase's map on it, and all of them together.

    A map is coloured from its own minimum to its own maximum, which stand below it; a ring marks
    the maximum, a frame the region around it (:func:`~kmm_jax.evaluation.heat.region_box`). A flat
    map has neither. In the last panel, left out where there is one phrase, each pixel has the
    colour of the phrase that gets there furthest from its minimum to its maximum, both over all
    these pictures, if it gets as far as ``floor``: so a phrase that is in one of them only does not
    claim the best place in each.

    Args:
        side: of a panel, pixels.

    Raises:
        UserError: no phrase or no picture, or more phrases than there are colours.
    """
    if not phrases or not pictures:
        raise UserError("nothing to draw: give at least one picture and one phrase")
    if len(phrases) > MOST_PHRASES:
        raise UserError(
            f"{len(phrases)} phrases are too many to tell apart; {MOST_PHRASES} at most"
        )
    several = len(phrases) > 1
    titles = [_PHOTO, *phrases, *([_TOGETHER] if several else [])]
    title_font, text_font, small_font = korean_font(17), korean_font(14), korean_font(12)
    lines = [
        wrap(title, title_font, side - _indent(column, phrases), _TITLE_LINES)
        for column, title in enumerate(titles)
    ]
    top = _MARGIN + _TITLE_LINE * max(map(len, lines)) + 8
    row_height = side + _UNDER + _GAP
    low_P11, spread_P11 = _ends(pictures)
    note = (
        f"색이 없는 곳: 어느 문구도 이 사진들에서의 최솟값과 최댓값 사이 {floor:.0%}에 못 미칩니다"
    )
    width = 2 * _MARGIN + len(titles) * side + (len(titles) - 1) * _GAP
    legend = _legend(phrases, note, width - 2 * _MARGIN) if several else []
    height = top + len(pictures) * row_height + _LEGEND_LINE * len(legend) + _MARGIN - _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, of_title in enumerate(lines):
        left = _MARGIN + column * (side + _GAP)
        if _indent(column, phrases):
            _chip(draw, left, _MARGIN + 4, _COLOURS[column - 1])
        for number, line in enumerate(of_title):
            place = (left + _indent(column, phrases), _MARGIN + number * _TITLE_LINE)
            draw.text(place, line, font=title_font, fill=_INK)
    for row, picture in enumerate(pictures):
        upper = top + row * row_height
        photo = Image.fromarray(resize_centre(picture.image, side))
        sheet.paste(photo, (_MARGIN, upper))
        name = wrap(picture.name, small_font, side, 1)
        draw.text((_MARGIN, upper + side + 6), "".join(name), font=small_font, fill=_FAINT)
        for column, heat_GG in enumerate(picture.heat_PGG, start=1):
            left = _MARGIN + column * (side + _GAP)
            sheet.paste(_overlaid(photo, heat_GG, floor), (left, upper))
            _scale(sheet, draw, left, upper + side + 6, side, heat_GG)
        if several:
            left = _MARGIN + (len(phrases) + 1) * (side + _GAP)
            share_PGG = (picture.heat_PGG - low_P11) / spread_P11
            sheet.paste(_together(photo, share_PGG, floor), (left, upper))
    for number, parts in enumerate(legend):
        upper = top + len(pictures) * row_height + number * _LEGEND_LINE
        for offset, colour, text in parts:
            if colour:
                _chip(draw, _MARGIN + offset, upper + 2, colour)
                offset += _CHIP + 7
            ink = _INK if colour else _FAINT
            draw.text((_MARGIN + offset, upper), text, font=text_font, fill=ink)
    with atomic_write(path) as file:
        sheet.save(file, "PNG")


def _indent(column: int, phrases: Sequence[str]) -> int:
    """Room for the colour before a phrase's title, where colours mean something."""
    return _CHIP + 8 if len(phrases) > 1 and 1 <= column <= len(phrases) else 0


def _chip(draw: Draw, left: float, upper: float, colour: str) -> None:
    draw.rounded_rectangle((left, upper, left + _CHIP, upper + _CHIP), radius=3, fill=colour)


def _legend(phrases: Sequence[str], note: str, width: int) -> list[_Line]:
    """The phrases as they fit, then the note."""
    font = korean_font(14)
    lines: list[_Line] = [[]]
    left = 0.0
    for colour, phrase in zip(_COLOURS, phrases, strict=False):
        text = "".join(wrap(phrase, font, width - _CHIP - 7, 1))
        needed = _CHIP + 7 + font.getlength(text)
        if left and left + needed > width:
            lines.append([])
            left = 0.0
        lines[-1].append((left, colour, text))
        left += needed + 22
    for line in wrap(note, font, width, 2):
        lines.append([(0.0, None, line)])
    return lines


def _grey(photo: Image.Image) -> np.ndarray:
    """The photo without its colours, which would mix with those of the map; float32 (S, S, 3)."""
    return np.asarray(photo.convert("L").convert("RGB"), np.float32)


def _overlaid(photo: Image.Image, heat_GG: np.ndarray, floor: float) -> Image.Image:
    size = photo.width
    colour_SS3 = _coloured(relative(enlarge(heat_GG[None], size))[0])
    mixed = _OVERLAY * colour_SS3 + (1 - _OVERLAY) * _grey(photo)
    panel = Image.fromarray(mixed.round().astype(np.uint8))
    if not np.ptp(heat_GG):  # of a flat map, no place is the highest
        return panel
    draw = ImageDraw.Draw(panel)
    x0, y0, x1, y1 = (round(share * size) for share in region_box(heat_GG, size, floor))
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=_MARK, width=1)
    x, y = (share * size for share in peak(heat_GG))
    for radius, colour, line in ((7, _INK, 4), (6, _MARK, 2)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=line)
    return panel


def _coloured(share: np.ndarray) -> np.ndarray:
    """Shares in [0, 1] in a colour map of even steps to the eye; float32, 0 to 255."""
    from matplotlib import colormaps

    return (colormaps["inferno"](share)[..., :3] * 255).astype(np.float32)


def _scale(
    sheet: Image.Image, draw: Draw, left: int, upper: int, side: int, heat_GG: np.ndarray
) -> None:
    """The colours from the minimum to the maximum, and both in figures."""
    ramp = np.broadcast_to(_coloured(np.linspace(0, 1, side)), (_BAR, side, 3))
    sheet.paste(Image.fromarray(ramp.astype(np.uint8)), (left, upper))
    font = korean_font(12)
    low, high = (f"{value:.3g}" for value in (heat_GG.min(), heat_GG.max()))
    below = upper + _BAR + 3
    draw.text((left, below), low, font=font, fill=_FAINT)
    draw.text((left + side - font.getlength(high), below), high, font=font, fill=_FAINT)


def _ends(pictures: Sequence[HeatPicture]) -> tuple[np.ndarray, np.ndarray]:
    """Each phrase's minimum over all pictures, and how far above it its maximum is; (P, 1, 1)."""
    heat_NPGG = np.stack([picture.heat_PGG for picture in pictures])
    low_P11, high_P11 = (of(heat_NPGG, axis=(0, 2, 3))[:, None, None] for of in (np.min, np.max))
    return low_P11, np.where(high_P11 > low_P11, high_P11 - low_P11, 1)


def _together(photo: Image.Image, share_PGG: np.ndarray, floor: float) -> Image.Image:
    share_PSS = enlarge(share_PGG, photo.width)
    winner_SS, share_SS = share_PSS.argmax(axis=0), share_PSS.max(axis=0)
    palette = np.asarray([_rgb(colour) for colour in _COLOURS], np.float32)
    grey_SS3 = _grey(photo)
    mixed = _OVERLAY * palette[winner_SS] + (1 - _OVERLAY) * grey_SS3
    shown = np.where((share_SS >= floor)[..., None], mixed, grey_SS3)
    return Image.fromarray(shown.round().astype(np.uint8))


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))
