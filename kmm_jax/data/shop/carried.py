"""Handbags, backpacks and umbrellas: what is carried rather than worn."""

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
    reflected,
    trace,
)


def handbag(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A tote with two upright handles, or a shoulder bag with a flap on a long strap."""
    broad, deep = rng.uniform(0.72, 0.82), rng.uniform(0.56, 0.66)
    if attributes.get("종류") == "숄더백":
        strap = trace(
            [
                (-broad * 0.92, 0.02),
                Bend(-0.5, -1.2),
                (0, -1.2),
                Bend(0.5, -1.2),
                (broad * 0.92, 0.02),
            ]
        )
        body: list[Point] = [
            (0, -0.04),
            (broad - 0.06, -0.04),
            Bend(broad + 0.04, 0.0),
            (broad, deep * 0.8),
            Bend(broad - 0.04, deep),
            (0, deep),
        ]
        flap: list[Point] = [
            (0, -0.08),
            (broad - 0.02, -0.08),
            Bend(broad, 0.3),
            (broad * 0.5, deep * 0.52),
            Bend(0.2, deep * 0.6),
            (0, deep * 0.6),
        ]
        return [
            Stroke(strap, "line", 0.13),
            Stroke(strap, "plain", 0.08),
            Patch(mirrored(body), "cloth"),
            Patch(mirrored(flap), "cloth"),
            Patch(ellipse(0, deep * 0.52, 0.09, 0.09, 10), "metal"),
        ]
    handle = trace([(-0.32, 0.0), Bend(-0.3, -0.62), (0, -0.62), Bend(0.3, -0.62), (0.32, 0.0)])
    tote: list[Point] = [
        (0, -0.1),
        (broad * 0.86, -0.1),
        (broad, deep),
        Bend(broad - 0.04, deep + 0.1),
        (broad - 0.16, deep + 0.1),
        (0, deep + 0.1),
    ]
    return [
        Stroke(handle, "line", 0.15),
        Stroke(handle, "dark", 0.1),
        Patch(mirrored(tote), "cloth"),
        Patch(
            mirrored([(0, -0.1), (broad * 0.86, -0.1), (broad * 0.875, 0.03), (0, 0.03)]), "dark"
        ),
        *(Patch(ellipse(x, 0.06, 0.06, 0.06, 10), "metal") for x in (-0.32, 0.32)),
    ]


def backpack(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A tall rounded sack with a loop, shoulder straps at the sides and a zipped front pocket."""
    broad, top = rng.uniform(0.56, 0.64), rng.uniform(-0.8, -0.7)
    loop = trace(
        [
            (-0.16, top + 0.06),
            Bend(-0.14, top - 0.24),
            (0, top - 0.24),
            Bend(0.14, top - 0.24),
            (0.16, top + 0.06),
        ]
    )
    strap = trace([(broad - 0.16, top + 0.16), Bend(broad + 0.44, top + 0.3), (broad + 0.16, 0.5)])
    body: list[Point] = [
        (0, top),
        Bend(broad, top),
        (broad, -0.2),
        (broad + 0.04, 0.6),
        Bend(broad + 0.02, 0.8),
        (broad - 0.14, 0.8),
        (0, 0.8),
    ]
    pocket: list[Point] = [
        (0, 0.06),
        (broad - 0.24, 0.06),
        Bend(broad - 0.1, 0.08),
        (broad - 0.12, 0.2),
        (broad - 0.12, 0.66),
        (0, 0.66),
    ]
    side = Patch([(broad, 0.3), (broad + 0.14, 0.36), (broad + 0.12, 0.74), (broad, 0.74)], "dark")
    zip_line = trace(
        [
            (-broad + 0.1, -0.2),
            Bend(-broad + 0.12, top + 0.16),
            (0, top + 0.16),
            Bend(broad - 0.12, top + 0.16),
            (broad - 0.1, -0.2),
        ]
    )
    straps: list[Shape] = [Stroke(strap, "line", 0.17), Stroke(strap, "dark", 0.12), side]
    return [
        Stroke(loop, "line", 0.12),
        Stroke(loop, "dark", 0.07),
        *straps,
        *reflected(straps),
        Patch(mirrored(body), "cloth"),
        Stroke(zip_line, "metal", 0.04),
        Patch(mirrored(pocket), "plain"),
        Stroke([(-broad + 0.2, 0.18), (broad - 0.2, 0.18)], "metal", 0.05),
        Patch([(0.1, 0.18), (0.16, 0.18), (0.16, 0.32), (0.1, 0.32)], "metal"),
    ]


def umbrella(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """Open, seen from the side: a scalloped canopy over a shaft with a crook or a knob."""
    top, count = -0.72 * rng.uniform(0.92, 1.06), 6
    canopy: list[Point] = [(-1.0, 0.06), Bend(-0.94, top), (0, top), Bend(0.94, top), (1.0, 0.06)]
    for i in range(count):
        x = 1.0 - 2.0 * (i + 1) / count
        canopy += [Bend(x + 1.0 / count, -0.1), (x, 0.06)]
    if attributes.get("손잡이") == "일자형":
        handle: list[Shape] = [Stroke([(0, 0.66), (0, 0.98)], "wood", 0.13)]
        foot = 0.7
    else:
        crook = trace(
            [(0, 0.62), (0, 0.84), Bend(0, 1.0), (0.13, 1.0), Bend(0.26, 1.0), (0.26, 0.84)]
        )
        handle, foot = [Stroke(crook, "wood", 0.1)], 0.64
    shapes: list[Shape] = [
        Stroke([(0, top - 0.14), (0, top + 0.1)], "metal", 0.06),
        Stroke([(0, -0.1), (0, foot)], "metal", 0.06),
        *handle,
        Patch(trace(canopy), "cloth"),
    ]
    for i in range(1, count):
        x = -1.0 + 2.0 * i / count
        lean = math.copysign(abs(x) ** 0.8, x)
        shapes.append(Stroke(trace([(0, top), Bend(lean, top * 0.8), (x, 0.05)]), "line", 0.025))
    return shapes
