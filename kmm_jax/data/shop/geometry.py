"""Outlines in a garment's own plane: points, bends, and the shapes a garment is made of.

The plane has x to the right and y down; a garment lies within about -1 to 1 on both axes. Its real
extent is fitted to the picture later, so only proportions matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Point = tuple[float, float]

Fill = Literal[
    "cloth",  # the colour with its pattern
    "plain",  # the colour alone: collars, cuffs, straps
    "dark",  # a darker shade of the colour: ribs, flaps
    "light",  # a lighter shade of the colour
    "inside",  # what one sees through an opening
    "line",  # seams and outlines
    "white",  # soles, laces
    "metal",  # zips, buckles, shafts
    "rubber",  # dark soles
    "wood",  # handles
]


class Bend(NamedTuple):
    """A control point: the outline bends towards it without passing through (quadratic)."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Patch:
    """A filled, outlined area."""

    points: Sequence[Point]
    fill: Fill


@dataclass(frozen=True, slots=True)
class Stroke:
    """An open line; ``width`` is in the garment's units."""

    points: Sequence[Point]
    fill: Fill
    width: float = 0.03


Shape = Patch | Stroke


def trace(points: Sequence[Point], steps: int = 6) -> list[Point]:
    """Replace every `Bend` of an open outline by points of a quadratic curve.

    The first and the last point are vertices; between two bends in a row lies a vertex half-way,
    as in TrueType outlines.
    """
    traced: list[Point] = [points[0]]
    for index in range(1, len(points)):
        point = points[index]
        if not isinstance(point, Bend):
            traced.append(point)
            continue
        following = points[index + 1]
        if isinstance(following, Bend):
            following = ((point.x + following.x) / 2, (point.y + following.y) / 2)
        (x0, y0), (x1, y1), (x2, y2) = traced[-1], point, following
        for step in range(1, steps):
            t = step / steps
            a, b, c = (1 - t) * (1 - t), 2 * t * (1 - t), t * t
            traced.append((a * x0 + b * x1 + c * x2, a * y0 + b * y1 + c * y2))
        if isinstance(points[index + 1], Bend):
            traced.append(following)
    return traced


def flipped(points: Iterable[Point]) -> list[Point]:
    """The mirror image at the axis x = 0."""
    return [Bend(-p.x, p.y) if isinstance(p, Bend) else (-p[0], p[1]) for p in points]


def mirrored(right: Sequence[Point]) -> list[Point]:
    """A closed outline from its right half, which runs from the axis at the top to the bottom."""
    left = flipped(reversed(right))
    start = 1 if right[-1][0] == 0 else 0
    end = len(left) - 1 if right[0][0] == 0 else len(left)
    outline = [*right, *left[start:end]]
    return trace([*outline, outline[0]])


def moved(
    shapes: Iterable[Shape], *, dx: float = 0.0, dy: float = 0.0, scale: float = 1.0
) -> list[Shape]:
    """The same shapes elsewhere: scaled about the origin, then shifted."""

    def place(points: Sequence[Point]) -> list[Point]:
        return [(x * scale + dx, y * scale + dy) for x, y in points]

    return [
        Patch(place(shape.points), shape.fill)
        if isinstance(shape, Patch)
        else Stroke(place(shape.points), shape.fill, shape.width * scale)
        for shape in shapes
    ]


def reflected(shapes: Iterable[Shape]) -> list[Shape]:
    """The same shapes, left and right exchanged."""
    return [
        Patch(flipped(shape.points), shape.fill)
        if isinstance(shape, Patch)
        else Stroke(flipped(shape.points), shape.fill, shape.width)
        for shape in shapes
    ]


def ellipse(cx: float, cy: float, rx: float, ry: float, steps: int = 14) -> list[Point]:
    """A closed ellipse."""
    turn = 2 * math.pi / steps
    return [(cx + rx * math.cos(i * turn), cy + ry * math.sin(i * turn)) for i in range(steps)]


def button(x: float, y: float, fill: Fill = "line", radius: float = 0.035) -> Patch:
    """A small round button."""
    return Patch(ellipse(x, y, radius, radius, 8), fill)


def ribs(left: Point, right: Point, drop: float, count: int) -> list[Shape]:
    """Short vertical lines between two points: the ribbing of a cuff or a hem."""
    (x0, y0), (x1, y1) = left, right
    shapes: list[Shape] = []
    for i in range(1, count):
        t = i / count
        x, y = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t
        shapes.append(Stroke([(x, y), (x, y + drop)], "line", 0.02))
    return shapes
