"""What a colour's name becomes on cloth: a jittered base, its shades, the ink of its pattern."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from random import Random

from kmm_jax.data.shop.geometry import Fill
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY

Rgb = tuple[int, int, int]

# Inks that stand out on a cloth without being taken for its colour.
INKS: dict[str, tuple[str, ...]] = {
    "red": ("white", "white", "black"),
    "orange": ("white", "white", "brown"),
    "yellow": ("white", "black", "brown"),
    "green": ("white", "white", "yellow", "black"),
    "skyblue": ("white", "white", "navy"),
    "blue": ("white", "white", "yellow"),
    "navy": ("white", "white", "skyblue"),
    "purple": ("white", "white", "pink"),
    "pink": ("white", "white", "purple"),
    "brown": ("beige", "white"),
    "beige": ("brown", "brown", "black", "red"),
    "gray": ("white", "white", "black", "navy"),
    "white": ("black", "navy", "red", "blue"),
    "black": ("white", "white", "gray"),
}

_FIXED: dict[Fill, Rgb] = {
    "white": (250, 250, 247),
    "metal": (196, 178, 128),
    "rubber": (58, 50, 48),
    "wood": (148, 100, 62),
}


@dataclass(frozen=True, kw_only=True)
class Dye:
    """The colours one garment is painted with, sRGB 0 to 255."""

    base: Rgb
    ink: Rgb
    fills: dict[Fill, Rgb]


def blend(first: Rgb, second: Rgb, share: float) -> Rgb:
    """``first`` with a ``share`` of ``second`` in it."""
    r, g, b = (round(x + (y - x) * share) for x, y in zip(first, second, strict=True))
    return r, g, b


def jitter(rgb: Rgb, rng: Random, *, hue: float = 0.014, spread: float = 0.05) -> Rgb:
    """A neighbouring shade: ``hue`` in turns, ``spread`` in saturation and value."""
    h, s, v = colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))
    h = (h + rng.uniform(-hue, hue)) % 1.0
    s = min(1.0, s * (1 + rng.uniform(-spread, spread) * 2))
    v = min(1.0, v * (1 + rng.uniform(-spread, spread)))
    r, g, b = (round(channel * 255) for channel in colorsys.hsv_to_rgb(h, s, v))
    return r, g, b


def luminance(rgb: Rgb) -> float:
    """Perceived brightness, 0 to 255 (Rec. 601 weights)."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def dye(colour: str, ink: str | None, rng: Random) -> Dye:
    """Mix the colours of a garment; ``colour`` and ``ink`` are keys of colours."""
    base = jitter(COLOURS_BY_KEY[colour].rgb, rng)
    # Seams on dark cloth must be lighter than it, or they vanish.
    if luminance(base) < 60:
        line, inside = blend(base, (150, 150, 160), 0.5), blend(base, (0, 0, 0), 0.5)
        dark = blend(base, (120, 120, 130), 0.2)
    else:
        line, inside = blend(base, (24, 16, 36), 0.62), blend(base, (24, 16, 36), 0.45)
        dark = blend(base, (24, 16, 36), 0.2)
    fills = dict(_FIXED) | {
        "plain": blend(base, (24, 16, 36), 0.06),
        "dark": dark,
        "light": blend(base, (255, 255, 255), 0.28),
        "inside": inside,
        "line": line,
    }
    return Dye(base=base, ink=jitter(COLOURS_BY_KEY[ink or colour].rgb, rng), fills=fills)
