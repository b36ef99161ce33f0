"""Dresses, skirts, trousers and shorts: what hangs from the waist."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from kmm_jax.data.shop.geometry import (
    Bend,
    Patch,
    Point,
    Shape,
    Stroke,
    mirrored,
    reflected,
    trace,
)
from kmm_jax.data.shop.tops import NECK_Y, long_sleeves, neck_back, round_neck, short_sleeves


def _folds(top: float, bottom: float, spread: float, count: int) -> list[Shape]:
    """Lines that fan out from the waist to the hem."""
    shapes: list[Shape] = []
    for i in range(count):
        t = (i + 0.5) / count * 2 - 1
        shapes.append(Stroke([(t * spread * 0.55, top), (t * spread, bottom)], "line", 0.022))
    return shapes


def dress(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A fitted bodice with a belt, above a skirt that is straight or flares."""
    hem = {"미니": 0.5, "미디": 0.85, "롱": 1.25}[attributes.get("총기장", "미디")]
    hem *= rng.uniform(0.96, 1.04)
    waist_y = -0.12
    chest, waist = rng.uniform(0.36, 0.4), rng.uniform(0.27, 0.31)
    flared = attributes.get("스커트스타일") != "H라인"
    reach = (0.4 + (hem - waist_y) * 0.42) if flared else 0.38
    neckline = round_neck(0.2, rng.uniform(0.16, 0.24))
    sleeves: list[Shape] = []
    shoulder: list[Point] = [(chest, NECK_Y + 0.13), Bend(chest - 0.06, -0.45), (chest, -0.34)]
    if attributes.get("소매기장") == "반소매":
        sleeves = short_sleeves(chest, rng)
    elif attributes.get("소매기장") == "긴소매":
        sleeves = long_sleeves(chest, rng)
    else:
        shoulder = [(0.3, NECK_Y + 0.03), Bend(0.26, -0.42), (chest, -0.36)]
    bodice: list[Point] = [*neckline, *shoulder, (waist, waist_y), (0, waist_y)]
    skirt_half: list[Point] = [
        (0, waist_y),
        (waist, waist_y),
        Bend(waist + 0.12, waist_y + 0.22),
        (reach, hem),
        Bend(reach * 0.5, hem + 0.1),
        (0, hem + 0.1),
    ]
    belt: list[Point] = [(0, waist_y - 0.05), (waist + 0.01, waist_y - 0.05)]
    belt += [(waist + 0.01, waist_y + 0.05), (0, waist_y + 0.05)]
    return [
        *sleeves,
        neck_back(0.2),
        Patch(mirrored(skirt_half), "cloth"),
        Patch(mirrored(bodice), "cloth"),
        *_folds(waist_y + 0.12, hem, reach * 0.86, 4 if flared else 2),
        Patch(mirrored(belt), "dark"),
    ]


def skirt(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A waistband over an A-line, straight, pleated or tiered skirt."""
    length = {"미니": 0.75, "미디": 1.2, "롱": 1.7}[attributes.get("총기장", "미디")]
    length *= rng.uniform(0.95, 1.05)
    style = attributes.get("스커트스타일", "A라인")
    waist, band = rng.uniform(0.36, 0.42), 0.12
    reach = {
        "A라인": 0.5 + length * 0.26,
        "H라인": 0.46,
        "플리츠": 0.52 + length * 0.2,
        "티어드": 0.52 + length * 0.18,
    }
    hem_x = reach[style] * rng.uniform(0.96, 1.04)
    hem: list[Point] = [Bend(hem_x * 0.5, length + 0.09), (0, length + 0.09)]
    if style == "플리츠":
        teeth = 5
        hem = []
        for i in range(teeth):
            x = hem_x * (1 - (i + 0.5) / teeth)
            hem += [(x, length + 0.09), (x - hem_x * 0.5 / teeth, length + 0.01)]
        hem[-1] = (0, length + 0.05)
    bulge = Bend(max(waist + 0.1, hem_x * 0.72), length * 0.28)
    body: list[Point] = [(0, 0), (waist, 0), bulge, (hem_x, length), *hem]
    belt: list[Point] = [(0, -band), (waist, -band), (waist + 0.02, 0.02), (0, 0.02)]
    shapes: list[Shape] = [Patch(mirrored(body), "cloth")]
    if style == "플리츠":
        shapes += _folds(0.02, length + 0.02, hem_x * 0.92, 9)
    elif style == "A라인":
        shapes += _folds(0.2, length, hem_x * 0.8, 3)
    elif style == "H라인":
        shapes.append(Stroke([(0.16, length * 0.62), (0.16, length + 0.07)], "line", 0.04))
    else:
        for share in (0.36, 0.68):
            y = length * share
            x = waist + (hem_x - waist) * (share**0.8) + 0.02
            ruffle = [(x * (i / 6 - 1), y + (0.05 if i % 2 else 0.0)) for i in range(13)]
            shapes += [Stroke(ruffle, "dark", 0.07), Stroke(ruffle, "line", 0.025)]
    return [*shapes, Patch(mirrored(belt), "dark")]


def trousers(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """Two legs to the ankle, with waistband, fly and pockets."""
    knee, ankle = {"슬림핏": (0.3, 0.14), "일자핏": (0.4, 0.28), "와이드핏": (0.5, 0.5)}[
        attributes.get("핏", "일자핏")
    ]
    return _legs(length=2.0 * rng.uniform(0.96, 1.04), knee=knee, ankle=ankle, rng=rng)


def shorts(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """Two legs that end above the knee."""
    length = {"3부": 0.78, "5부": 1.05}[attributes.get("총기장", "5부")]
    return _legs(length=length * rng.uniform(0.96, 1.04), knee=0.44, ankle=0.46, rng=rng)


def _legs(*, length: float, knee: float, ankle: float, rng: Random) -> list[Shape]:
    """``knee`` and ``ankle`` are the widths of a leg there."""
    waist, hip, crotch = 0.4, rng.uniform(0.46, 0.5), 0.52
    gap = rng.uniform(0.04, 0.1)
    outer = gap + ankle + (0.06 if length > 1.5 else 0.12)
    inner = outer - ankle
    middle = (crotch + length) / 2
    leg: list[Point] = [
        (0, 0),
        (waist, 0),
        Bend(hip, 0.12),
        (hip, 0.36),
        Bend((gap + knee + hip) / 2, middle),
        (outer, length),
        (inner, length + 0.02),
        Bend(gap + 0.02, middle),
        (0.02, crotch),
        (0, crotch - 0.03),
    ]
    belt: list[Point] = [(0, -0.12), (waist, -0.12), (waist + 0.01, 0.02), (0, 0.02)]
    cuff: list[Point] = [(outer, length - 0.06), (inner, length - 0.04)]
    pocket = trace([(waist - 0.14, 0.02), Bend(waist - 0.1, 0.2), (hip - 0.01, 0.22)])
    right: list[Shape] = [Stroke(cuff, "line", 0.025), Stroke(pocket, "line", 0.03)]
    fly = trace([(0.1, 0.03), (0.1, 0.26), Bend(0.08, 0.36), (0, 0.38)])
    return [
        Patch(mirrored(leg), "cloth"),
        *right,
        *reflected(right),
        Stroke([(0, 0), (0, crotch)], "line", 0.03),
        Stroke(fly, "line", 0.022),
        Patch(mirrored(belt), "dark"),
        *(Stroke([(x, -0.13), (x, 0.03)], "line", 0.04) for x in (-0.24, 0.24)),
        Patch([(-0.04, -0.09), (0.04, -0.09), (0.04, -0.01), (-0.04, -0.01)], "metal"),
    ]
