"""Patterned cloth: a rectangle of the base colour with stripes, checks or motifs in an ink."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

from PIL import Image, ImageDraw

from kmm_jax.data.shop.dyes import Rgb, blend


def cloth(
    pattern: str,
    size: tuple[int, int],
    *,
    base: Rgb,
    ink: Rgb,
    pitch: float,
    angle: float,
    rng: Random,
) -> Image.Image:
    """Draw a piece of cloth.

    ``size`` is (width, height) in pixels; ``pitch`` is the distance between repeats, in pixels;
    ``angle`` in radians turns the pattern clockwise. Ink covers less than half of the cloth, so
    that the base colour stays the colour of the garment.
    """
    image = Image.new("RGB", size, base)
    if pattern == "solid":
        return image
    draw = ImageDraw.Draw(image)
    if pattern == "stripe":
        across = rng.choice((0.0, 0.0, math.pi / 2))
        _lines(draw, size, pitch, angle + across, ink, pitch * 0.38)
    elif pattern == "check":
        half = blend(base, ink, 0.55)
        _lines(draw, size, pitch * 1.3, angle, half, pitch * 0.4)
        _lines(draw, size, pitch * 1.3, angle + math.pi / 2, half, pitch * 0.4)
        offset = pitch * 0.65
        _lines(draw, size, pitch * 1.3, angle, ink, pitch * 0.12, offset)
        _lines(draw, size, pitch * 1.3, angle + math.pi / 2, ink, pitch * 0.12, offset)
    elif pattern == "zigzag":
        _zigzags(draw, size, pitch, angle, ink)
    else:
        motif, scale = _MOTIFS[pattern]
        _stamp(draw, size, pitch * scale, angle, ink, motif)
    return image


def _lines(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    pitch: float,
    angle: float,
    ink: Rgb,
    width: float,
    offset: float = 0.0,
) -> None:
    """Parallel lines along ``angle``, across the whole piece."""
    w, h = size
    ux, uy = math.cos(angle), math.sin(angle)
    reach = math.hypot(w, h) / 2
    count = int(reach / pitch) + 2
    for i in range(-count, count + 1):
        d = i * pitch + offset
        x, y = w / 2 - uy * d, h / 2 + ux * d
        ends = (x - ux * reach, y - uy * reach, x + ux * reach, y + uy * reach)
        draw.line(ends, fill=ink, width=max(1, round(width)))


def _zigzags(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], pitch: float, angle: float, ink: Rgb
) -> None:
    w, h = size
    ux, uy = math.cos(angle), math.sin(angle)
    reach = math.hypot(w, h) / 2
    rows, steps = int(reach / pitch) + 2, int(reach / (pitch * 0.5)) + 2
    for row in range(-rows, rows + 1):
        points = []
        for step in range(-steps, steps + 1):
            along = step * pitch * 0.5
            d = row * pitch + (pitch * 0.28 if step % 2 else -pitch * 0.28)
            points.append((w / 2 + ux * along - uy * d, h / 2 + uy * along + ux * d))
        draw.line(points, fill=ink, width=max(1, round(pitch * 0.26)))


def _centres(size: tuple[int, int], pitch: float, angle: float) -> Iterator[tuple[float, float]]:
    """A staggered grid that covers the piece."""
    w, h = size
    ux, uy = math.cos(angle), math.sin(angle)
    reach = math.hypot(w, h) / 2 + pitch
    count = int(reach / pitch) + 1
    rows = int(reach / (pitch * 0.8)) + 1
    for row in range(-rows, rows + 1):
        d = row * pitch * 0.8
        for column in range(-count, count + 1):
            along = (column + (0.5 if row % 2 else 0.0)) * pitch
            x, y = w / 2 + ux * along - uy * d, h / 2 + uy * along + ux * d
            if -pitch < x < w + pitch and -pitch < y < h + pitch:
                yield x, y


Motif = Callable[[ImageDraw.ImageDraw, float, float, float], None]


def _stamp(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    pitch: float,
    angle: float,
    ink: Rgb,
    motif: Motif,
) -> None:
    """Draw the motif once, then press it at every centre of the grid."""
    side = max(4, math.ceil(pitch))
    stamp = Image.new("L", (side, side), 0)
    motif(ImageDraw.Draw(stamp), side / 2, pitch * 0.33, angle)
    for x, y in _centres(size, pitch, angle):
        draw.bitmap((round(x - side / 2), round(y - side / 2)), stamp, fill=ink)


def _dot(draw: ImageDraw.ImageDraw, centre: float, radius: float, angle: float) -> None:
    radius *= 0.82
    draw.ellipse((centre - radius, centre - radius, centre + radius, centre + radius), fill=255)


def _star(draw: ImageDraw.ImageDraw, centre: float, radius: float, angle: float) -> None:
    points = []
    for i in range(10):
        length = radius * (1.25 if i % 2 == 0 else 0.52)
        turn = angle - math.pi / 2 + i * math.pi / 5
        points.append((centre + length * math.cos(turn), centre + length * math.sin(turn)))
    draw.polygon(points, fill=255)


# x = 16 sin^3 t, y = -(13 cos t - 5 cos 2t - 2 cos 3t - cos 4t): the usual heart curve.
_HEART = [
    (
        math.sin(t) ** 3,
        -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
    )
    for t in (i * 2 * math.pi / 20 for i in range(20))
]


def _heart(draw: ImageDraw.ImageDraw, centre: float, radius: float, angle: float) -> None:
    c, s, r = math.cos(angle), math.sin(angle), radius * 1.05
    draw.polygon(
        [(centre + r * (c * x - s * y), centre + r * (s * x + c * y)) for x, y in _HEART], fill=255
    )


def _flower(draw: ImageDraw.ImageDraw, centre: float, radius: float, angle: float) -> None:
    petal = radius * 0.4
    for i in range(5):
        turn = angle - math.pi / 2 + i * 2 * math.pi / 5
        x, y = centre + radius * 0.64 * math.cos(turn), centre + radius * 0.64 * math.sin(turn)
        draw.ellipse((x - petal, y - petal, x + petal, y + petal), fill=255)
    heart = radius * 0.26
    draw.ellipse((centre - heart, centre - heart, centre + heart, centre + heart), fill=0)


# What is stamped, and how much wider than the common pitch its grid is: detail needs pixels.
_MOTIFS: dict[str, tuple[Motif, float]] = {
    "dot": (_dot, 1.0),
    "star": (_star, 1.3),
    "heart": (_heart, 1.3),
    "floral": (_flower, 1.5),
}
