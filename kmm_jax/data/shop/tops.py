"""T-shirts, shirts, knitwear and hoodies, and the bodies and sleeves that all upper wear shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from kmm_jax.data.shop.geometry import (
    Bend,
    Fill,
    Patch,
    Point,
    Shape,
    Stroke,
    button,
    flipped,
    mirrored,
    reflected,
    ribs,
    trace,
)

NECK_Y = -0.8  # where the shoulder seam meets the neck
_WIDTH = {"슬림핏": 0.4, "레귤러핏": 0.47, "오버핏": 0.57}


def body_width(attributes: Mapping[str, str], rng: Random) -> float:
    """Half the width of the body, as the fit says."""
    return _WIDTH[attributes.get("핏", "레귤러핏")] * rng.uniform(0.97, 1.03)


def round_neck(width: float, depth: float) -> list[Point]:
    """The right half of a round neckline, from its lowest point to the shoulder seam."""
    return [(0, NECK_Y + depth), Bend(width * 0.9, NECK_Y + depth), (width, NECK_Y)]


def v_neck(width: float, depth: float) -> list[Point]:
    """The right half of a V-shaped neckline."""
    return [(0, NECK_Y + depth), (width, NECK_Y)]


def torso(neckline: Sequence[Point], *, width: float, hem: float, flare: float = 0.0) -> Patch:
    """The front of the body between neckline and hem; ``flare`` widens the hem."""
    right = [
        *neckline,
        (width, NECK_Y + 0.14),
        Bend(width - 0.08, -0.42),
        (width - 0.02, -0.28),
        (width + flare, hem),
        Bend(width * 0.5, hem + 0.05),
        (0, hem + 0.05),
    ]
    return Patch(mirrored(right), "cloth")


def neck_back(width: float, drop: float = 0.1) -> Patch:
    """The inside of the back, seen through the neckline."""
    right = [(0, NECK_Y - 0.03), Bend(width, NECK_Y - 0.03), (width, NECK_Y), (0, NECK_Y + drop)]
    return Patch(mirrored(right), "inside")


def short_sleeves(width: float, rng: Random) -> list[Shape]:
    """Both sleeves to above the elbow."""
    reach = rng.uniform(0.34, 0.42)
    outline: list[Point] = [
        (width - 0.06, NECK_Y + 0.11),
        Bend(width + 0.14, NECK_Y + 0.14),
        (width + reach, -0.24),
        (width + reach - 0.24, -0.08),
        (width - 0.05, -0.26),
    ]
    hem: list[Point] = [(width + reach - 0.03, -0.29), (width + reach - 0.27, -0.13)]
    right: list[Shape] = [Patch(trace(outline), "cloth"), Stroke(hem, "line", 0.02)]
    return [*right, *reflected(right)]


def long_sleeves(width: float, rng: Random, *, cuff: Fill = "plain") -> list[Shape]:
    """Both sleeves to the wrist, with cuffs."""
    spread, end = rng.uniform(0.3, 0.42), rng.uniform(0.42, 0.56)
    outline: list[Point] = [
        (width - 0.06, NECK_Y + 0.11),
        Bend(width + 0.16, NECK_Y + 0.16),
        (width + 0.2, -0.3),
        (width + spread, end),
        (width + spread - 0.22, end + 0.05),
        (width - 0.05, -0.18),
    ]
    wrist: list[Point] = [
        (width + spread - 0.01, end - 0.02),
        (width + spread + 0.01, end + 0.12),
        (width + spread - 0.2, end + 0.17),
        (width + spread - 0.22, end + 0.03),
    ]
    right: list[Shape] = [Patch(trace(outline), "cloth"), Patch(wrist, cuff)]
    return [*right, *reflected(right)]


def _sleeves(attributes: Mapping[str, str], width: float, rng: Random) -> list[Shape]:
    if attributes.get("소매기장") == "반소매":
        return short_sleeves(width, rng)
    return long_sleeves(width, rng)


def tshirt(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """Collarless, with a thin neckband."""
    width, neck = body_width(attributes, rng), rng.uniform(0.2, 0.25)
    if attributes.get("넥라인") == "브이넥":
        neckline = v_neck(neck, rng.uniform(0.3, 0.38))
    else:
        neckline = round_neck(neck, rng.uniform(0.13, 0.18))
    half = trace(neckline)
    return [
        *_sleeves(attributes, width, rng),
        neck_back(neck),
        torso(neckline, width=width, hem=rng.uniform(0.62, 0.78)),
        Stroke([*reversed(half), *flipped(half[1:])], "dark", 0.07),
    ]


def shirt(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """With a collar, a button placket, a chest pocket and a curved hem."""
    width, neck, hem = body_width(attributes, rng), 0.21, rng.uniform(0.66, 0.78)
    front: list[Point] = [
        *v_neck(neck, 0.22),
        (width, NECK_Y + 0.14),
        Bend(width - 0.08, -0.42),
        (width - 0.02, -0.28),
        (width, hem - 0.16),
        Bend(width * 0.7, hem + 0.1),
        (0, hem + 0.1),
    ]
    collar: list[Point] = [
        (0, NECK_Y + 0.23),
        (neck + 0.03, NECK_Y - 0.06),
        (neck + 0.12, NECK_Y + 0.09),
        (0.17, NECK_Y + 0.33),
    ]
    shapes: list[Shape] = [
        *_sleeves(attributes, width, rng),
        neck_back(neck, 0.2),
        Patch(mirrored(front), "cloth"),
        Patch(
            [
                (-0.055, NECK_Y + 0.22),
                (0.055, NECK_Y + 0.22),
                (0.055, hem + 0.09),
                (-0.055, hem + 0.09),
            ],
            "light",
        ),
        Patch(collar, "light"),
        Patch(flipped(collar), "light"),
    ]
    shapes += [button(0, NECK_Y + 0.32 + 0.22 * i) for i in range(int((hem + 0.4) / 0.22) + 1)]
    pocket_x = width * 0.28
    pocket = [
        (pocket_x, -0.34),
        (pocket_x + 0.2, -0.34),
        (pocket_x + 0.2, -0.14),
        (pocket_x + 0.1, -0.08),
        (pocket_x, -0.14),
    ]
    return [*shapes, Stroke([*pocket, pocket[0]], "line", 0.025)]


def knit(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """Thick, ribbed at collar, cuffs and hem, with two cables down the front."""
    width, neck, hem = body_width(attributes, rng) + 0.03, 0.23, rng.uniform(0.5, 0.62)
    band = hem + 0.18
    shapes: list[Shape] = [
        *long_sleeves(width, rng, cuff="dark"),
        neck_back(neck),
        torso(round_neck(neck, 0.14), width=width, hem=hem),
        Patch([(-width, hem), (width, hem), (width - 0.05, band), (0.05 - width, band)], "dark"),
        *ribs((-width, hem), (width, hem), 0.17, 12),
    ]
    if attributes.get("넥라인") == "터틀넥":
        top = NECK_Y - 0.24
        collar = [
            (0, top),
            (neck - 0.03, top),
            (neck + 0.02, NECK_Y + 0.06),
            Bend(0.1, NECK_Y + 0.16),
            (0, NECK_Y + 0.16),
        ]
        shapes += [
            Patch(mirrored(collar), "dark"),
            *ribs((-neck, top + 0.02), (neck, top + 0.02), 0.26, 7),
        ]
    else:
        half = trace(round_neck(neck, 0.16))
        shapes.append(Stroke([*reversed(half), *flipped(half[1:])], "dark", 0.13))
        shapes.append(Stroke([*reversed(half), *flipped(half[1:])], "line", 0.02))
    for side in (-1, 1):
        for phase in (-1, 1):
            twist = [
                (side * 0.19 + phase * 0.045 * (1 if i % 2 else -1), -0.46 + i * (hem + 0.42) / 8)
                for i in range(9)
            ]
            shapes.append(Stroke(twist, "line", 0.025))
    return shapes


def hoodie(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """With a raised hood, drawstrings and a pouch pocket, or a zip and two pockets."""
    width, hem = body_width(attributes, rng) + 0.04, rng.uniform(0.56, 0.68)
    peak = NECK_Y - rng.uniform(0.3, 0.38)
    hood: list[Point] = [
        (0, peak),
        Bend(0.4, peak),
        (0.4, NECK_Y - 0.05),
        Bend(0.4, NECK_Y + 0.22),
        (0, NECK_Y + 0.34),
    ]
    opening: list[Point] = [
        (0, peak + 0.15),
        Bend(0.25, peak + 0.14),
        (0.24, NECK_Y - 0.02),
        Bend(0.22, NECK_Y + 0.14),
        (0, NECK_Y + 0.24),
    ]
    band = hem + 0.13
    shapes: list[Shape] = [
        *long_sleeves(width, rng, cuff="dark"),
        torso(round_neck(0.24, 0.2), width=width, hem=hem),
        Patch([(-width, hem), (width, hem), (width - 0.04, band), (0.04 - width, band)], "dark"),
        Patch(mirrored(hood), "cloth"),
        Patch(mirrored(opening), "inside"),
    ]
    if attributes.get("여밈") == "집업":
        pocket: list[Point] = [(0.12, 0.1), (0.3, 0.06), (0.4, hem - 0.02), (0.12, hem - 0.02)]
        shapes += [
            Stroke([(0, NECK_Y + 0.3), (0, band)], "metal", 0.07),
            Stroke([*pocket, pocket[0]], "line", 0.03),
            Stroke(flipped([*pocket, pocket[0]]), "line", 0.03),
        ]
    else:
        pouch: list[Point] = [
            (0, 0.08),
            (0.2, 0.08),
            (0.34, 0.32),
            (0.34, hem - 0.02),
            (0, hem - 0.02),
        ]
        shapes.append(Patch(mirrored(pouch), "plain"))
    for side in (-1, 1):
        shapes.append(Stroke([(side * 0.12, NECK_Y + 0.24), (side * 0.14, -0.2)], "white", 0.04))
    return shapes
