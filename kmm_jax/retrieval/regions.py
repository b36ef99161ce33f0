"""A part of a picture to search by: a box that a person drew, or where a text is seen.

Boxes are x0, y0, x1, y1 in shares of the picture's width and height, x to the right and y down.
G patches along a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from kmm_jax.data.boxes import Box, from_centre
from kmm_jax.errors import UserError
from kmm_jax.evaluation.heat import region_box

MARGIN = 0.1
"""By which a box is grown on each side, as a share of its longer one."""

_FLOOR = 0.5  # of the way from a map's minimum to its maximum, as kmm heatmap draws its frames
_PIXELS_PER_PATCH = 8
_LEAST_PIXELS = 8


@runtime_checkable
class SeesWhere(Protocol):
    """An encoder that says where in a picture it sees a text."""

    def heat_map(self, images: Sequence[Any], texts: Sequence[str]) -> np.ndarray:
        """(N, G, G), the relevance of each patch to the text at the picture's side."""
        ...


def checked_box(values: Sequence[float]) -> Box:
    """A box, once it is one.

    Raises:
        UserError: not four numbers from 0 to 1, or a box of no area.
    """
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"a box is x0, y0, x1, y1 in shares of the sides, got {values!r}"
        ) from error
    # Written so that NaN fails, too.
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise UserError(
            f"a box is x0, y0, x1, y1 from 0 to 1 with x0 < x1 and y0 < y1, got {values!r}"
        )
    return x0, y0, x1, y1


def cropped(picture: Image.Image, box: Sequence[float], *, margin: float = MARGIN) -> Image.Image:
    """The part of a picture in and around a box, square where the picture is large enough.

    Models look at the central square of what they are given: cut out as it is, a long box would
    lose its ends. So its shorter side grows to the longer one, around the same middle and within
    the picture.

    Raises:
        UserError: no box.
    """
    x0, y0, x1, y1 = checked_box(box)
    width, height = picture.size
    left, top, right, bottom = x0 * width, y0 * height, x1 * width, y1 * height
    side = max((1 + 2 * margin) * max(right - left, bottom - top), _LEAST_PIXELS)

    def span(low: float, high: float, whole: int) -> tuple[int, int]:
        length = min(max(1, round(side)), whole)
        start = min(max(0, math.floor((low + high - length) / 2 + 0.5)), whole - length)
        return start, start + length

    (left_, right_), (top_, bottom_) = span(left, right, width), span(top, bottom, height)
    return picture.crop((left_, top_, right_, bottom_))


def located(heat_GG: np.ndarray, size: tuple[int, int], *, floor: float = _FLOOR) -> Box | None:
    """The box around the part of a heat-map that stands out and holds its maximum.

    Args:
        heat_GG: over the picture's central square, rows first.
        size: width and height of the picture.
        floor: what stands out gets so far from the map's minimum to its maximum.

    Returns:
        In shares of the whole picture; None where the map is flat and says of no place more than of
        another.
    """
    heat_GG = np.asarray(heat_GG, np.float64)
    if not np.isfinite(heat_GG).all() or not np.ptp(heat_GG) > 0:
        return None
    width, height = size
    around = region_box(heat_GG, _PIXELS_PER_PATCH * len(heat_GG), floor)
    x0, y0, x1, y1 = from_centre(around, size)
    # Rounding must not lead out of the picture.
    return max(0.0, x0 / width), max(0.0, y0 / height), min(1.0, x1 / width), min(1.0, y1 / height)


def find_box(encoder: object, picture: Image.Image, text: str) -> Box:
    """Where an encoder sees a text in a picture; everywhere, where it sees it nowhere more.

    Raises:
        UserError: the encoder makes no heat-maps.
    """
    if not isinstance(encoder, SeesWhere):
        raise UserError(
            f"this model makes no heat-maps and cannot look for {text!r}; give a box instead"
        )
    box = located(np.asarray(encoder.heat_map([picture], [text]))[0], picture.size)
    return (0.0, 0.0, 1.0, 1.0) if box is None else box
