"""Sneakers, heels, boots and socks, always as a pair seen from the side; toes point right."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from kmm_jax.data.shop.geometry import Bend, Patch, Point, Shape, Stroke, moved, trace


def _closed(points: list[Point]) -> list[Point]:
    return trace([*points, points[0]])


def _pair(shapes: list[Shape], *, dx: float, dy: float) -> list[Shape]:
    """The far one of the pair is drawn first."""
    return [*moved(shapes, dx=dx, dy=dy), *shapes]


def sneakers(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A thick white sole, laces, a toe cap, a heel tab."""
    top = {"로우탑": -0.36, "하이탑": -0.78}[attributes.get("발목높이", "로우탑")]
    thick = rng.uniform(0.15, 0.2)
    upper = _closed(
        [
            (-0.86, 0.3),
            Bend(-0.94, 0.0),
            (-0.8, top),
            Bend(-0.6, top + 0.14),
            (-0.3, top + 0.02),
            Bend(-0.16, -0.16),
            (0.3, -0.02),
            Bend(0.86, 0.02),
            (0.92, 0.3),
        ]
    )
    sole = _closed(
        [
            (-0.9, 0.26),
            (0.93, 0.26),
            Bend(1.02, 0.26 + thick / 2),
            (0.9, 0.26 + thick),
            (-0.84, 0.26 + thick),
            Bend(-0.96, 0.26 + thick),
        ]
    )
    toe = _closed([(0.52, 0.28), Bend(0.56, 0.02), (0.66, 0.05), Bend(0.92, 0.08), (0.92, 0.28)])
    mouth = _closed(
        [(-0.8, top), Bend(-0.6, top + 0.14), (-0.3, top + 0.02), Bend(-0.56, top - 0.1)]
    )
    shapes: list[Shape] = [
        Patch(upper, "cloth"),
        Patch(mouth, "inside"),
        Patch(toe, "white"),
        Patch(
            _closed(
                [(-0.88, 0.28), Bend(-0.92, 0.02), (-0.84, -0.14), Bend(-0.66, 0.0), (-0.64, 0.28)]
            ),
            "dark",
        ),
        Patch(sole, "white"),
        Stroke([(-0.9, 0.27 + thick * 0.5), (0.95, 0.27 + thick * 0.5)], "line", 0.035),
    ]
    rows = 3 if top > -0.5 else 5
    for i in range(rows):
        t = i / max(rows - 1, 1)
        x, y = 0.22 - 0.46 * t, 0.0 + (top + 0.2) * t
        shapes.append(Stroke([(x - 0.16, y + 0.1), (x + 0.07, y - 0.03)], "white", 0.065))
    return _pair(shapes, dx=-0.14, dy=-0.56 + (top + 0.36) * 0.75)


def heels(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """Pumps: an arched sole on a thin heel, open at the instep."""
    rise = {"미들힐": 0.4, "하이힐": 0.68}[attributes.get("굽높이", "하이힐")]
    rise *= rng.uniform(0.95, 1.05)
    is_pointed = attributes.get("토스타일") == "포인티드 토"
    tip, snub = (1.04, 0.0) if is_pointed else (0.86, 0.14)
    back = 0.3 - rise  # where the sole leaves the heel
    heel_top, vamp = (-0.8, back - 0.46), (0.34, -0.1)
    throat = Bend(-0.34, back + 0.2 - rise * 0.32)
    upper = _closed(
        [
            (-0.84, back + 0.1),
            Bend(-0.94, back - 0.24),
            heel_top,
            throat,
            vamp,
            Bend(tip - 0.12 + snub, 0.02 - snub),
            (tip, 0.32),
            (0.4, 0.4),
            Bend(0.0, 0.42),
            (-0.4, back + 0.24),
        ]
    )
    opening = _closed([heel_top, throat, vamp, Bend(-0.26, throat.y - 0.16)])
    spike = _closed(
        [
            (-0.86, back),
            (-0.46, back + 0.16),
            Bend(-0.68, back + rise * 0.5),
            (-0.7, 0.42),
            (-0.84, 0.42),
            Bend(-0.86, back + rise * 0.4),
        ]
    )
    sole: list[Point] = [
        (-0.84, back + 0.12),
        (-0.4, back + 0.25),
        Bend(0.0, 0.44),
        (0.4, 0.41),
        (tip, 0.34),
    ]
    shapes: list[Shape] = [
        Patch(spike, "plain"),
        Patch(opening, "inside"),
        Patch(upper, "cloth"),
        Stroke(trace(sole), "rubber", 0.05),
    ]
    return _pair(shapes, dx=-0.3, dy=-0.66 - rise * 0.3)


def boots(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """A shaft to the ankle, the calf or the knee, on a dark heeled sole."""
    shaft = {"앵클부츠": 0.75, "미들부츠": 1.1, "롱부츠": 1.6}[attributes.get("종류", "미들부츠")]
    top = 0.3 - shaft * rng.uniform(0.96, 1.04)
    leg = _closed(
        [
            (-0.5, 0.34),
            Bend(-0.54, 0.0),
            (-0.44, -0.2),
            (-0.52, top),
            (0.06, top),
            (0.0, -0.16),
            Bend(0.06, -0.02),
            (0.3, 0.02),
            Bend(0.64, 0.06),
            (0.66, 0.34),
        ]
    )
    sole = _closed(
        [
            (-0.52, 0.32),
            (0.66, 0.32),
            Bend(0.72, 0.42),
            (0.6, 0.44),
            (-0.1, 0.44),
            (-0.16, 0.56),
            (-0.5, 0.56),
        ]
    )
    shapes: list[Shape] = [
        Patch(leg, "cloth"),
        Patch(sole, "rubber"),
        Patch(
            [(-0.54, top - 0.02), (0.08, top - 0.02), (0.06, top + 0.1), (-0.53, top + 0.1)], "dark"
        ),
        Stroke([(-0.2, top + 0.12), (-0.22, -0.12)], "line", 0.025),
    ]
    return _pair(shapes, dx=-0.66, dy=-0.16)


def socks(attributes: Mapping[str, str], rng: Random) -> list[Shape]:
    """Soft tubes with a ribbed cuff and paler heel and toe."""
    tube = {"발목양말": 0.5, "중목양말": 0.95, "니삭스": 1.5}[attributes.get("종류", "중목양말")]
    top = 0.1 - tube * rng.uniform(0.96, 1.04)
    foot = _closed(
        [
            (-0.36, top),
            (0.06, top),
            Bend(0.06, -0.05),
            (0.2, 0.06),
            (0.56, 0.22),
            Bend(0.78, 0.34),
            (0.64, 0.52),
            Bend(0.52, 0.62),
            (0.36, 0.56),
            (-0.1, 0.42),
            Bend(-0.42, 0.34),
            (-0.38, 0.02),
        ]
    )
    heel = _closed([(-0.385, 0.06), Bend(-0.12, 0.14), (-0.1, 0.41), Bend(-0.42, 0.34)])
    toe = _closed(
        [
            (0.56, 0.22),
            Bend(0.78, 0.34),
            (0.64, 0.52),
            Bend(0.52, 0.62),
            (0.36, 0.56),
            Bend(0.54, 0.4),
        ]
    )
    shapes: list[Shape] = [
        Patch(foot, "cloth"),
        Patch(heel, "light"),
        Patch(toe, "light"),
        Patch(
            [(-0.38, top - 0.02), (0.08, top - 0.02), (0.08, top + 0.14), (-0.38, top + 0.14)],
            "dark",
        ),
        *(
            Stroke([(-0.28 + 0.1 * i, top), (-0.28 + 0.1 * i, top + 0.13)], "line", 0.022)
            for i in range(4)
        ),
    ]
    return _pair(shapes, dx=-0.6, dy=-0.14)
