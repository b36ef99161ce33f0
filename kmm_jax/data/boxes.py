"""A record's ``boxes``: what stands where in the picture; and where that is in the centre square.

A box is x0, y0, x1, y1 in pixels of the upright picture, x1 and y1 exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kmm_jax.errors import DataError

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class NamedBox:
    """A thing in a picture.

    Attributes:
        labels: what else the record says of it, such as ``{"type": "shirt", "color": "red"}``, or
            ``{"phrase": "빨간 셔츠"}``.
    """

    box: Box
    labels: Mapping[str, str]


def named_boxes(record: Mapping[str, Any]) -> tuple[NamedBox, ...]:
    """The record's boxes that carry labels, ``{"box": [x0, y0, x1, y1], "type": ...}``, in order.

    Bare lists of numbers, which name nothing, are left out.

    Raises:
        DataError: a box with labels is no box.
    """
    found = []
    for number, entry in enumerate(record.get("boxes") or ()):
        if not isinstance(entry, dict):
            continue
        labels = {key: value for key, value in entry.items() if isinstance(value, str) and value}
        if labels:
            found.append(NamedBox(box=_checked(entry.get("box"), number), labels=labels))
    return tuple(found)


def _checked(box: Any, number: int) -> Box:
    is_box = (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(x, int | float) and math.isfinite(x) for x in box)
        and box[0] < box[2]
        and box[1] < box[3]
    )
    if not is_box:
        raise DataError(
            f"boxes[{number}].box must be [x0, y0, x1, y1] in pixels, x0 < x1 and y0 < y1, "
            f"found {box!r}"
        )
    x0, y0, x1, y1 = (float(x) for x in box)
    return x0, y0, x1, y1


def in_centre(box: Box, picture: tuple[int, int]) -> Box:
    """``box`` in the square that :func:`~kmm_jax.data.augment.resize_centre` cuts out.

    Args:
        picture: its width and height, pixels.

    Returns:
        Shares of the square's side, below 0 and above 1 where the box reaches out of it.
    """
    side, left, top = _centre(picture)
    x0, y0, x1, y1 = box
    return (x0 - left) / side, (y0 - top) / side, (x1 - left) / side, (y1 - top) / side


def from_centre(box: Box, picture: tuple[int, int]) -> Box:
    """The inverse of :func:`in_centre`."""
    side, left, top = _centre(picture)
    x0, y0, x1, y1 = box
    return x0 * side + left, y0 * side + top, x1 * side + left, y1 * side + top


def inside(box: Box) -> tuple[Box, float]:
    """The part of a box of :func:`in_centre` within the square, and its share of the whole box.

    Without a part within, a box of no area and 0.
    """
    x0, y0, x1, y1 = (min(max(x, 0.0), 1.0) for x in box)
    whole = (box[2] - box[0]) * (box[3] - box[1])
    return (x0, y0, x1, y1), (x1 - x0) * (y1 - y0) / whole


def _centre(picture: tuple[int, int]) -> tuple[int, float, float]:
    """Side, left and top of the central square."""
    width, height = picture
    side = min(width, height)
    return side, (width - side) / 2, (height - side) / 2
