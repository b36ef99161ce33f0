"""Hats, scarves, ties and gloves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random

from kmm_jax.data.shop.geometry import (
    Bend,
    Patch,
    Point,
    Shape,
    Stroke,
    ellipse,
    mirrored,
    moved,
    reflected,
    ribs,
    trace,
)


def hat(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A baseball cap, a beanie with a bobble, or a bucket hat."""
    draw = {"볼캡": _cap, "비니": _beanie, "버킷햇": _bucket_hat}
    return draw[attributes.get("종류", "볼캡")](rng)


def _cap(rng: Random) -> list[Shape]:
    top = -0.62 * rng.uniform(0.94, 1.08)
    dome = trace(
        [
            (-0.78, 0.2),
            Bend(-0.8, top),
            (-0.08, top),
            Bend(0.56, top),
            (0.6, 0.16),
            Bend(-0.1, 0.32),
            (-0.78, 0.2),
        ]
    )
    brim = trace(
        [
            (0.02, 0.2),
            Bend(0.3, 0.02),
            (0.6, 0.04),
            Bend(1.1, 0.08),
            (1.24, 0.3),
            Bend(0.7, 0.2),
            (0.02, 0.28),
        ]
    )
    return [
        Patch(dome, "cloth"),
        Stroke(trace([(-0.08, top), Bend(-0.4, -0.2), (-0.36, 0.25)]), "line", 0.03),
        Stroke(trace([(-0.08, top), Bend(0.24, -0.3), (0.2, 0.06)]), "line", 0.03),
        Patch(brim, "dark"),
        Patch(ellipse(-0.08, top, 0.09, 0.05, 10), "dark"),
        Stroke(trace([(-0.76, 0.14), Bend(-0.3, 0.26), (0.06, 0.2)]), "line", 0.025),
    ]


def _beanie(rng: Random) -> list[Shape]:
    top = -0.62 * rng.uniform(0.94, 1.1)
    dome: list[Point] = [(0, top), Bend(0.62, top), (0.62, 0.16), (0, 0.2)]
    fold: list[Point] = [
        (0, 0.12),
        (0.62, 0.08),
        Bend(0.7, 0.24),
        (0.64, 0.42),
        Bend(0.3, 0.48),
        (0, 0.48),
    ]
    return [
        Patch(ellipse(0, top - 0.12, 0.18, 0.18), "light"),
        Patch(mirrored(dome), "cloth"),
        Patch(mirrored(fold), "dark"),
        *ribs((-0.64, 0.12), (0.64, 0.12), 0.32, 12),
    ]


def _bucket_hat(rng: Random) -> list[Shape]:
    top = -0.5 * rng.uniform(0.94, 1.1)
    crown: list[Point] = [(0, top), (0.34, top), Bend(0.46, top), (0.54, 0.14), (0, 0.2)]
    brim: list[Point] = [(0, 0.1), (0.54, 0.06), (0.92, 0.36), Bend(0.5, 0.58), (0, 0.58)]
    return [
        Patch(mirrored(crown), "cloth"),
        Patch(mirrored(brim), "cloth"),
        Stroke(trace([(-0.54, 0.08), Bend(0, 0.2), (0.54, 0.08)]), "dark", 0.07),
        Stroke(trace([(-0.72, 0.26), Bend(0, 0.46), (0.72, 0.26)]), "line", 0.02),
        Stroke(trace([(-0.82, 0.36), Bend(0, 0.58), (0.82, 0.36)]), "line", 0.02),
    ]


def scarf(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A loop with two fringed ends hanging from it."""
    shapes: list[Shape] = []
    for side, length in ((-1, rng.uniform(0.85, 1.0)), (1, rng.uniform(0.6, 0.8))):
        lean = side * rng.uniform(0.06, 0.16)
        x0, x1 = side * 0.3 - 0.21, side * 0.3 + 0.21
        end: list[Point] = [(x0, -0.4), (x1, -0.4), (x1 + lean, length), (x0 + lean, length)]
        for i in range(6):
            x = x0 + lean + 0.03 + i * 0.072
            shapes.append(Stroke([(x, length - 0.02), (x, length + 0.16)], "plain", 0.045))
        shapes.append(Patch(end, "cloth"))
        shapes.append(
            Stroke([(x1 + lean, length - 0.07), (x0 + lean, length - 0.07)], "dark", 0.05)
        )
    loop: list[Point] = [(0, -0.98), Bend(0.72, -0.98), (0.7, -0.6), Bend(0.66, -0.2), (0, -0.2)]
    hole: list[Point] = [(0, -0.82), Bend(0.42, -0.82), (0.4, -0.66), Bend(0.36, -0.56), (0, -0.56)]
    fold = trace([(-0.6, -0.56), Bend(-0.3, -0.34), (0.1, -0.34), Bend(0.4, -0.36), (0.62, -0.6)])
    return [
        *shapes,
        Patch(mirrored(loop), "cloth"),
        Patch(mirrored(hole), "inside"),
        Stroke(fold, "line", 0.03),
    ]


def tie(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A knot above a blade that widens to a point."""
    broad = {"슬림": 0.24, "와이드": 0.36}[attributes.get("폭", "와이드")] * rng.uniform(0.95, 1.05)
    length = rng.uniform(1.5, 1.7)
    loop: list[Point] = [
        (0, -0.36),
        Bend(0.34, -0.36),
        (0.36, -0.26),
        Bend(0.3, -0.12),
        (0.1, 0.0),
        (0, 0.0),
    ]
    hole: list[Point] = [(0, -0.26), Bend(0.22, -0.26), (0.22, -0.22), Bend(0.16, -0.12), (0, -0.1)]
    knot: list[Point] = [(0, -0.12), (0.19, -0.1), Bend(0.17, 0.1), (0.1, 0.2), (0, 0.22)]
    blade: list[Point] = [(0, 0.16), (0.1, 0.16), (broad, length - broad), (0, length)]
    tail = [(-0.02, 0.2), (0.12, 0.2), (broad * 0.9, length * 0.72), (broad * 0.4, length * 0.82)]
    return [
        Patch(mirrored(loop), "plain"),
        Patch(mirrored(hole), "inside"),
        Patch(tail, "dark"),
        Patch(mirrored(blade), "cloth"),
        Patch(mirrored(knot), "cloth"),
    ]


def gloves(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A pair with ribbed cuffs, thumbs inwards: mittens, or with five fingers."""
    if attributes.get("종류") == "벙어리장갑":
        hand = _mitten(rng)
    else:
        hand = _fingers(rng)
    cuff: list[Point] = [(-0.3, 0.36), (0.3, 0.36), (0.32, 0.66), (-0.32, 0.66)]
    hand += [Patch(cuff, "dark"), *ribs((-0.3, 0.37), (0.3, 0.37), 0.28, 7)]
    return [*moved(hand, dx=-0.5), *moved(reflected(hand), dx=0.5, dy=0.05)]


def _mitten(rng: Random) -> list[Shape]:
    top = -0.78 * rng.uniform(0.95, 1.05)
    palm = trace([(-0.32, 0.4), Bend(-0.4, top), (-0.04, top), Bend(0.32, top), (0.3, 0.4)])
    thumb = trace(
        [(0.24, 0.26), (0.22, -0.1), Bend(0.4, -0.44), (0.5, -0.3), Bend(0.56, 0.1), (0.24, 0.26)]
    )
    return [Patch(thumb, "cloth"), Patch(palm, "cloth")]


def _fingers(rng: Random) -> list[Shape]:
    shapes: list[Shape] = []
    for base, angle, length in (
        (-0.25, -14, 0.6),
        (-0.09, -5, 0.74),
        (0.08, 4, 0.72),
        (0.23, 13, 0.6),
    ):
        shapes.append(
            Patch(_finger(base, -0.06, angle, length * rng.uniform(0.95, 1.05), 0.095), "cloth")
        )
    shapes.append(Patch(_finger(0.24, 0.24, 48, 0.5, 0.1), "cloth"))
    palm = trace([(-0.3, 0.4), (-0.33, -0.06), Bend(0.0, -0.2), (0.31, -0.06), (0.3, 0.4)])
    return [*shapes, Patch(palm, "cloth")]


def _finger(x: float, y: float, degrees: float, length: float, radius: float) -> list[Point]:
    """A bar with a round end, leaning right by ``degrees`` from upright."""
    turn = math.radians(degrees)
    ux, uy = math.sin(turn), -math.cos(turn)
    px, py = -uy, ux
    tip = [
        (
            x + ux * (length - radius + radius * math.sin(a)) - px * radius * math.cos(a),
            y + uy * (length - radius + radius * math.sin(a)) - py * radius * math.cos(a),
        )
        for a in (i * math.pi / 6 for i in range(7))
    ]
    return [(x - px * radius, y - py * radius), *tip, (x + px * radius, y + py * radius)]
