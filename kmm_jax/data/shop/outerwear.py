"""Jackets, coats and vests: what opens at the front and is worn over the rest."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from kmm_jax.data.shop.geometry import (
    Bend,
    Patch,
    Point,
    Shape,
    Stroke,
    button,
    mirrored,
    reflected,
    ribs,
)
from kmm_jax.data.shop.tops import NECK_Y, long_sleeves, neck_back, torso, v_neck


def _bilateral(*right: Shape) -> list[Shape]:
    return [*right, *reflected(right)]


def jacket(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """Short and boxy, with a ribbed waistband, slanted pockets and a big collar."""
    width, hem = rng.uniform(0.52, 0.58), rng.uniform(0.28, 0.38)
    band = hem + 0.16
    collar: list[Point] = [
        (0.02, NECK_Y + 0.2),
        (0.14, NECK_Y - 0.14),
        (0.34, NECK_Y - 0.02),
        (0.36, NECK_Y + 0.22),
        (0.16, NECK_Y + 0.3),
    ]
    shapes: list[Shape] = [
        *long_sleeves(width, rng, cuff="dark"),
        neck_back(0.24, 0.2),
        torso(v_neck(0.22, 0.2), width=width, hem=hem, flare=-0.02),
        Patch([(-width, hem), (width, hem), (width - 0.06, band), (0.06 - width, band)], "dark"),
        *ribs((-width, hem), (width, hem), 0.15, 14),
        *_bilateral(Patch(collar, "plain"), Stroke([(0.2, 0.18), (0.36, -0.08)], "line", 0.06)),
    ]
    if attributes.get("여밈") == "버튼":
        shapes.append(Stroke([(0.06, NECK_Y + 0.24), (0.06, band)], "line", 0.025))
        shapes += [button(0, y, "metal", 0.05) for y in (-0.42, -0.2, 0.02, 0.24)]
    else:
        shapes.append(Stroke([(0, NECK_Y + 0.2), (0, band)], "line", 0.11))
        shapes.append(Stroke([(0, NECK_Y + 0.2), (0, band)], "metal", 0.06))
    return shapes


def coat(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """To the knee or below, flared, with broad lapels, flap pockets and large buttons."""
    hem = {"하프": 1.0, "롱": 1.4}[attributes.get("총기장", "롱")] * rng.uniform(0.97, 1.03)
    width = rng.uniform(0.46, 0.5)
    lapel: list[Point] = [
        (0.0, -0.06),
        (0.16, NECK_Y - 0.08),
        (0.34, NECK_Y + 0.1),
        (0.26, NECK_Y + 0.26),
        (0.38, NECK_Y + 0.34),
        (0.08, 0.02),
    ]
    pocket: list[Point] = [(0.2, 0.38), (0.42, 0.35), (0.42, 0.46), (0.2, 0.49)]
    shapes: list[Shape] = [
        *long_sleeves(width, rng, cuff="cloth"),
        neck_back(0.2, 0.3),
        torso(v_neck(0.2, 0.5), width=width, hem=hem, flare=rng.uniform(0.1, 0.18)),
        Stroke([(0, 0.0), (0, hem + 0.05)], "line", 0.03),
        *_bilateral(Patch(lapel, "plain"), Patch(pocket, "plain")),
    ]
    rows = (0.12, 0.36, 0.6)
    if attributes.get("여밈") == "더블버튼":
        shapes += [button(side * 0.12, y, "line", 0.055) for y in rows for side in (-1, 1)]
    else:
        shapes += [button(0.07, y, "line", 0.055) for y in rows]
    return shapes


def vest(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """Without sleeves: a waistcoat with points at the hem, or a quilted one with a zip."""
    if attributes.get("종류") == "패딩조끼":
        return _quilted_vest(rng)
    width, hem = rng.uniform(0.46, 0.52), rng.uniform(0.48, 0.58)
    front: list[Point] = [
        (0, -0.12),
        (0.22, NECK_Y),
        (0.38, NECK_Y + 0.08),
        Bend(0.28, -0.3),
        (width, -0.16),
        Bend(width - 0.08, 0.2),
        (width, hem - 0.1),
        (0.18, hem + 0.2),
        (0, hem - 0.04),
    ]
    edge: list[Point] = [(0, -0.12), (0.22, NECK_Y)]
    shapes: list[Shape] = [
        Patch(mirrored([(0, NECK_Y), (0.22, NECK_Y), (0.1, 0.1), (0, 0.1)]), "inside"),
        Patch(mirrored(front), "cloth"),
        *_bilateral(Stroke(edge, "dark", 0.09), Stroke([(0.2, 0.26), (0.38, 0.22)], "line", 0.05)),
        Stroke([(0, -0.12), (0, hem - 0.04)], "line", 0.03),
    ]
    return [*shapes, *(button(0.06, -0.02 + 0.14 * i, "line", 0.04) for i in range(4))]


def _quilted_vest(rng: Random) -> list[Shape]:
    width, hem = rng.uniform(0.52, 0.58), rng.uniform(0.5, 0.6)
    front: list[Point] = [
        (0, NECK_Y + 0.1),
        (0.24, NECK_Y),
        (0.44, NECK_Y + 0.1),
        Bend(0.34, -0.34),
        (width - 0.04, -0.2),
    ]
    rows = 4
    depth = (hem + 0.2) / rows
    for row in range(rows):
        y = -0.2 + row * depth
        front += [Bend(width + 0.08, y + depth / 2), (width - 0.03, y + depth)]
    front.append((0, hem + 0.02))
    shapes: list[Shape] = [neck_back(0.26, 0.2), Patch(mirrored(front), "cloth")]
    for row in range(-1, rows):
        y = -0.2 + row * depth
        reach = width - 0.03 if row >= 0 else 0.36
        seam: list[Point] = [
            (-reach, y),
            (-reach / 2, y + 0.03),
            (0, y),
            (reach / 2, y + 0.03),
            (reach, y),
        ]
        shapes.append(Stroke(seam, "line", 0.035))
    collar: list[Point] = [
        (0, NECK_Y - 0.14),
        (0.2, NECK_Y - 0.16),
        (0.26, NECK_Y + 0.04),
        (0, NECK_Y + 0.14),
    ]
    return [
        *shapes,
        Patch(mirrored(collar), "dark"),
        Stroke([(0, NECK_Y - 0.12), (0, hem)], "metal", 0.06),
    ]
