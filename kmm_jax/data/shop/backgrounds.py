"""Where a garment is photographed: plain and graded paper, rooms, tables, lawns, podiums."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from kmm_jax.data.shop.dyes import Rgb, blend, jitter

_PAPERS: tuple[Rgb, ...] = (
    (250, 249, 246),
    (236, 234, 230),
    (214, 226, 236),
    (250, 228, 222),
    (226, 238, 222),
    (244, 236, 206),
    (230, 222, 240),
    (196, 212, 210),
    (170, 182, 196),
    (226, 200, 188),
)
_WOODS: tuple[Rgb, ...] = ((206, 164, 116), (176, 128, 88), (226, 196, 156), (150, 118, 98))
_LAWNS: tuple[Rgb, ...] = ((146, 190, 106), (120, 172, 108), (172, 196, 116))
_SKIES: tuple[Rgb, ...] = ((190, 222, 244), (214, 232, 244), (250, 222, 196))


@dataclass(frozen=True, kw_only=True)
class Background:
    """A setting and the Korean for it, ending in a place noun (… 위, … 앞) that takes 에."""

    key: str
    ko: tuple[str, ...]
    draw: Callable[[int, Sequence[Rgb], Random], Image.Image]


def _apart(choices: Sequence[Rgb], avoid: Sequence[Rgb], rng: Random) -> Rgb:
    """One of ``choices``, as far as may be from every colour to ``avoid``."""
    shades = [jitter(choice, rng, spread=0.03) for choice in rng.sample(choices, len(choices))]

    def nearest(shade: Rgb) -> float:
        return min((math.dist(shade, other) for other in avoid), default=255.0)

    return next((s for s in shades if nearest(s) > 75), max(shades, key=nearest))


def _plain(side: int, avoid: Sequence[Rgb], rng: Random) -> Image.Image:
    return Image.new("RGB", (side, side), _apart(_PAPERS, avoid, rng))


def _graded(side: int, avoid: Sequence[Rgb], rng: Random) -> Image.Image:
    top = _apart(_PAPERS, avoid, rng)
    image = Image.new("RGB", (side, side), top)
    ramp = Image.linear_gradient("L").resize((side, side))
    image.paste(blend(top, (90, 90, 120), rng.uniform(0.18, 0.34)), (0, 0), ramp)
    return image


def _room(side: int, avoid: Sequence[Rgb], rng: Random) -> Image.Image:
    wall, floor = _apart(_PAPERS, avoid, rng), jitter(rng.choice(_WOODS), rng)
    image = Image.new("RGB", (side, side), wall)
    draw = ImageDraw.Draw(image)
    edge = round(side * rng.uniform(0.62, 0.76))
    draw.rectangle((0, edge, side, side), fill=floor)
    draw.rectangle((0, edge - side * 0.03, side, edge), fill=blend(wall, (255, 255, 255), 0.6))
    vanishing = side * rng.uniform(0.3, 0.7)
    for i in range(-6, 13):
        x = side * i / 7
        near = vanishing + (x - vanishing) * 1.8
        draw.line((x, edge, near, side), fill=blend(floor, (60, 30, 10), 0.22), width=2)
    if rng.random() < 0.4:
        x, w = side * rng.choice((0.04, 0.7)), side * 0.26
        draw.rectangle((x, side * 0.08, x + w, side * 0.4), fill=(206, 228, 240))
        draw.rectangle((x, side * 0.08, x + w, side * 0.4), outline=(250, 250, 250), width=4)
        draw.line((x + w / 2, side * 0.08, x + w / 2, side * 0.4), fill=(250, 250, 250), width=4)
    return image


def _table(side: int, avoid: Sequence[Rgb], rng: Random) -> Image.Image:
    wood = _apart(_WOODS, avoid, rng)
    image = Image.new("RGB", (side, side), wood)
    draw = ImageDraw.Draw(image)
    planks = rng.randint(4, 6)
    for i in range(planks):
        top, bottom = side * i / planks, side * (i + 1) / planks
        shade = blend(wood, (255, 240, 220), rng.uniform(0.0, 0.14))
        draw.rectangle((0, top, side, bottom), fill=shade)
        draw.line((0, bottom, side, bottom), fill=blend(wood, (50, 24, 8), 0.3), width=2)
        joint = rng.uniform(0, side)
        draw.line((joint, top, joint, bottom), fill=blend(wood, (50, 24, 8), 0.24), width=2)
        grain = top + (bottom - top) * rng.uniform(0.3, 0.7)
        start = rng.uniform(0, side * 0.6)
        draw.line((start, grain, start + side * 0.3, grain), fill=blend(shade, (80, 40, 10), 0.14))
    return image


def _lawn(side: int, avoid: Sequence[Rgb], rng: Random) -> Image.Image:
    sky, grass = _apart(_SKIES, avoid, rng), _apart(_LAWNS, avoid, rng)
    image = Image.new("RGB", (side, side), sky)
    draw = ImageDraw.Draw(image)
    x, r = side * rng.uniform(0.1, 0.9), side * 0.07
    draw.ellipse((x - r, side * 0.08 - r, x + r, side * 0.08 + r), fill=(255, 246, 214))
    horizon = side * rng.uniform(0.5, 0.62)
    for _ in range(4):
        x, r = rng.uniform(0, side), side * rng.uniform(0.12, 0.24)
        bush = blend(grass, (40, 90, 60), rng.uniform(0.15, 0.4))
        draw.ellipse((x - r, horizon - r * 0.8, x + r, horizon + r), fill=bush)
    draw.rectangle((0, horizon, side, side), fill=grass)
    for _ in range(14):
        x, y = rng.uniform(0, side), rng.uniform(horizon + 6, side)
        blade = blend(grass, (40, 90, 40), 0.25)
        draw.line((x, y, x - 3, y - 6), fill=blade, width=2)
        draw.line((x, y, x + 3, y - 6), fill=blade, width=2)
    return image


def _podium(side: int, avoid: Sequence[Rgb], rng: Random) -> Image.Image:
    paper = _apart(_PAPERS, avoid, rng)
    image = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(image)
    r = side * rng.uniform(0.34, 0.42)
    disc = (
        blend(paper, (255, 255, 255), 0.5)
        if rng.random() < 0.5
        else blend(paper, (120, 100, 120), 0.14)
    )
    draw.ellipse((side / 2 - r, side * 0.46 - r, side / 2 + r, side * 0.46 + r), fill=disc)
    edge = side * rng.uniform(0.8, 0.86)
    stand = blend(paper, (90, 80, 100), 0.2)
    left, right, rim = side * 0.08, side * 0.92, side * 0.06
    draw.rectangle((left, edge, right, edge + side * 0.1), fill=stand)
    draw.ellipse((left, edge + side * 0.1 - rim, right, edge + side * 0.1 + rim), fill=stand)
    top = blend(stand, (255, 255, 255), 0.3)
    draw.ellipse((left, edge - rim, right, edge + rim), fill=top)
    return image


BACKGROUNDS: Mapping[str, Background] = {
    background.key: background
    for background in (
        Background(key="plain", ko=("단색 배경 앞", "깔끔한 배경 앞"), draw=_plain),
        Background(key="graded", ko=("은은한 배경 앞", "스튜디오 배경 앞"), draw=_graded),
        Background(key="room", ko=("방 안", "마룻바닥이 있는 방 안"), draw=_room),
        Background(key="table", ko=("나무 탁자 위", "원목 테이블 위"), draw=_table),
        Background(key="lawn", ko=("공원 잔디밭 위", "야외 풀밭 위"), draw=_lawn),
        Background(key="podium", ko=("둥근 받침대 위", "진열대 위"), draw=_podium),
    )
}
