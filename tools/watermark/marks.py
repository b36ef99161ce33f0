"""Marks to lay over photos, and what only looks like one.

H, W pixels. A coverage is float32 in [0, 1]: how much of a pixel the mark's ink covers before its
opacity. Fonts, words and shapes come in two sets that share nothing: one to train on, one to
measure on. Only fonts that installed packages carry are used, so that marks are alike everywhere.

What counts as a mark: semi-transparent ink (opacity up to 0.7) of any size, and a small signature
in a corner at any opacity. Opaque captions, price tags and prints on clothes do not: OCR counts
their text, and a shop's banner says something of the goods.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from kmm_jax.data.fonts import korean_font_path

Kind = Literal["text", "tiled", "logo", "lines", "signature"]
KINDS: tuple[Kind, ...] = ("text", "tiled", "logo", "lines", "signature")
Box = tuple[float, float, float, float]
Shape = Callable[[ImageDraw.ImageDraw, float, int], None]
_T = TypeVar("_T")

_SMOOTH = 2  # shapes are drawn this many times as large, and shrunk
_VISIBLE = 12  # of 255: a mark that changes no channel by more is not there


class Designs(NamedTuple):
    """Fonts (file names), words and shapes that marks are made of."""

    korean_fonts: tuple[str, ...]
    latin_fonts: tuple[str, ...]
    korean: tuple[str, ...]
    latin: tuple[str, ...]
    shapes: tuple[str, ...]
    lines: tuple[str, ...]
    random_words: bool


TRAIN = Designs(
    korean_fonts=("NanumGothic.ttf", "NanumGothicBold.ttf"),
    latin_fonts=("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf",
                 "DejaVuSans-Oblique.ttf", "STIXGeneral.ttf", "NanumGothic.ttf"),
    korean=("샘플", "저작권", "무단도용금지", "미리보기", "사진관", "스튜디오", "복제금지", "쇼핑",
            "하늘상점", "무단 전재 금지", "이미지", "판매자", "오늘의 옷", "옷장"),
    latin=("SAMPLE", "PREVIEW", "Copyright", "do not copy", "stockphoto", "studio", "WATERMARK",
           "PROOF", "Images", "www.myshop.com", "@daily.look", "© 2019", "fashion", "DRAFT",
           "Photo by J. Lee", "shop.co.kr", "ALL RIGHTS RESERVED"),
    shapes=("ring", "disc", "square", "diamond", "hexagon", "triangle", "copyright", "bars"),
    lines=("cross", "grid", "diagonals", "target"),
    random_words=True,
)  # fmt: skip
HELD_OUT = Designs(
    korean_fonts=("NanumGothicExtraBold.ttf", "NanumGothicLight.ttf"),
    latin_fonts=("DejaVuSerif.ttf", "DejaVuSerif-Italic.ttf", "STIXGeneralItalic.ttf",
                 "STIXGeneralBol.ttf"),
    korean=("견본", "불법복제", "포토마켓", "한빛사진", "비매품", "출처 표기", "그림창고"),
    latin=("CONFIDENTIAL", "snapbank", "Kim Visuals", "pixelmarket", "UNLICENSED", "Lookbook",
           "mall-house.kr", "© Hana", "#ootd_seoul"),
    shapes=("star", "shield", "heart", "rings", "aperture"),
    lines=("lattice", "rays"),
    random_words=False,
)  # fmt: skip


def pick(rng: np.random.Generator, choices: Sequence[_T]) -> _T:
    """One of ``choices``."""
    return choices[int(rng.integers(len(choices)))]


def overlay(
    pixels_HWC: np.ndarray,
    rng: np.random.Generator,
    designs: Designs,
    kind: Kind,
    opacity: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The photo with a mark, and where the mark can be seen.

    Args:
        pixels_HWC: uint8 RGB, at least 16 pixels a side.
        opacity: of the ink, in (0, 1].

    Returns:
        uint8 pixels, and a bool (H, W).
    """
    height, width = pixels_HWC.shape[:2]
    cover_HW = _COVERS[kind](rng, designs, height, width)
    before_HWC = pixels_HWC.astype(np.float32)
    after_HWC: np.ndarray = before_HWC
    style = rng.random()
    if style < 0.15:  # light on one side, shadow on the other, as if pressed into the photo
        step = 1 if min(height, width) < 300 else 2
        light = np.clip(cover_HW - np.roll(cover_HW, (step, step), (0, 1)), 0, 1)
        dark = np.clip(cover_HW - np.roll(cover_HW, (-step, -step), (0, 1)), 0, 1)
        inks = ((dark, 0.0, opacity), (light, 255.0, opacity), (cover_HW, 200.0, opacity * 0.4))
        for each, grey, strength in inks:
            alpha_HW1 = (each * strength)[..., None]
            after_HWC = after_HWC * (1 - alpha_HW1) + grey * alpha_HW1
    else:
        if style < 0.35:
            shadow_HW1 = (np.roll(cover_HW, (1, 1), (0, 1)) * opacity * 0.7)[..., None]
            after_HWC = after_HWC * (1 - shadow_HW1)
        alpha_HW1 = (cover_HW * opacity)[..., None]
        after_HWC = after_HWC * (1 - alpha_HW1) + _ink(rng) * alpha_HW1
    changed_HW = np.abs(after_HWC - before_HWC).max(-1) > _VISIBLE
    return after_HWC.round().clip(0, 255).astype(np.uint8), changed_HW


def decoy(pixels_HWC: np.ndarray, rng: np.random.Generator, designs: Designs) -> np.ndarray:
    """The photo with something that is no mark: a caption, a price tag, a print, a frame."""
    return pick(rng, (_caption, _tag, _print, _print, _frame))(pixels_HWC, rng, designs)


def caption_or_tag(
    pixels_HWC: np.ndarray, rng: np.random.Generator, designs: Designs
) -> np.ndarray:
    """The photo with an opaque caption or price tag."""
    return pick(rng, (_caption, _tag))(pixels_HWC, rng, designs)


def printed(pixels_HWC: np.ndarray, rng: np.random.Generator, designs: Designs) -> np.ndarray:
    """The photo with a word or a shape printed on what it shows."""
    return _print(pixels_HWC, rng, designs)


# Marks: coverages of (height, width).


def _text(rng: np.random.Generator, designs: Designs, height: int, width: int) -> np.ndarray:
    cover_HW = np.zeros((height, width), np.float32)
    for _ in range(1 if rng.random() < 0.8 else 2):
        text, font = _words(rng, designs)
        angle = 0.0 if rng.random() < 0.55 else rng.uniform(-50, 50)
        if rng.random() < 0.08:
            angle = 90.0
        patch = _written(rng, text, font, rng.uniform(0.3, 0.95) * width, angle, height * 0.3)
        _put(cover_HW, patch, *_place(rng, cover_HW, patch))
    return cover_HW


def _tiled(rng: np.random.Generator, designs: Designs, height: int, width: int) -> np.ndarray:
    cover_HW = np.zeros((height, width), np.float32)
    angle = pick(rng, (0.0, 45.0, -45.0, 30.0, -30.0, rng.uniform(-60, 60)))
    if rng.random() < 0.75:
        text, font = _words(rng, designs)
        patch = _written(rng, text, font, rng.uniform(0.15, 0.5) * width, angle, height * 0.15)
    else:
        patch = _shape(rng, designs, rng.uniform(0.08, 0.2) * min(height, width))
    high, wide = patch.shape
    # Turned words stand in the empty corners of each other's boxes.
    tight = 0.6 if angle else 1.1
    step_y = max(8.0, high * tight + rng.uniform(0.02, 0.12) * height)
    step_x = max(8.0, wide * tight + rng.uniform(0.02, 0.15) * width)
    shift, start_y, start_x = rng.uniform(0, 0.5), rng.uniform(-step_y, 0), rng.uniform(-step_x, 0)
    for row in range(math.ceil(height / step_y) + 1):
        for column in range(-1, math.ceil(width / step_x) + 1):
            x = start_x + (column + shift * (row % 2)) * step_x
            _put(cover_HW, patch, int(start_y + row * step_y), int(x))
    return cover_HW


def _logo(rng: np.random.Generator, designs: Designs, height: int, width: int) -> np.ndarray:
    cover_HW = np.zeros((height, width), np.float32)
    patch = _shape(rng, designs, rng.uniform(0.14, 0.5) * min(height, width))
    if rng.random() < 0.5:
        text, font = _words(rng, designs)
        name = _written(rng, text, font, patch.shape[1] * rng.uniform(0.9, 2), 0.0, height * 0.1)
        patch = _stacked(patch, name)
    _put(cover_HW, patch, *_place(rng, cover_HW, patch))
    return cover_HW


def _lines(rng: np.random.Generator, designs: Designs, height: int, width: int) -> np.ndarray:
    image = Image.new("L", (width * _SMOOTH, height * _SMOOTH))
    stroke = round(rng.uniform(0.8, 2.5) * _SMOOTH * max(1.0, min(height, width) / 224))
    _LINES[pick(rng, designs.lines)](ImageDraw.Draw(image), rng, *image.size, max(1, stroke))
    cover_HW = _shrunk(image)
    if rng.random() < 0.7:
        text, font = _words(rng, designs)
        patch = _written(rng, text, font, rng.uniform(0.2, 0.5) * width, 0.0, height * 0.12)
        _put(cover_HW, patch, (height - patch.shape[0]) // 2, (width - patch.shape[1]) // 2)
    return cover_HW


def _signature(rng: np.random.Generator, designs: Designs, height: int, width: int) -> np.ndarray:
    cover_HW = np.zeros((height, width), np.float32)
    text, font = _words(rng, designs)
    if rng.random() < 0.4:
        text = pick(rng, ("© ", "@", "ⓒ ", "by ")) + text.lstrip("©@# ")
    size = max(9.0, rng.uniform(0.04, 0.065) * height)
    patch = _written(rng, text, font, width * 0.6, 0.0, size)
    margin = rng.uniform(0.01, 0.06) * min(height, width)
    free_y, free_x = height - patch.shape[0] - margin, width - patch.shape[1] - margin
    x = (free_x + margin) / 2 if rng.random() < 0.2 else pick(rng, (margin, free_x))
    _put(cover_HW, patch, int(margin if rng.random() < 0.25 else free_y), int(x))
    return cover_HW


_COVERS: dict[Kind, Callable[[np.random.Generator, Designs, int, int], np.ndarray]] = {
    "text": _text,
    "tiled": _tiled,
    "logo": _logo,
    "lines": _lines,
    "signature": _signature,
}


def _ink(rng: np.random.Generator) -> np.ndarray:
    draw = rng.random()
    if draw < 0.6:
        return np.full(3, rng.uniform(225, 255), np.float32)
    if draw < 0.85:
        return np.full(3, rng.uniform(0, 160), np.float32)
    return rng.uniform(0, 255, 3).astype(np.float32)


def _words(rng: np.random.Generator, designs: Designs) -> tuple[str, str]:
    """A text, and a font that has its letters."""
    korean = rng.random() < 0.4
    text = pick(rng, designs.korean if korean else designs.latin)
    if designs.random_words and rng.random() < 0.5:
        length = int(rng.integers(2, 6 if korean else 11))
        first, last = ("가", "힣") if korean else ("a", "z")
        text = "".join(chr(int(each)) for each in rng.integers(ord(first), ord(last) + 1, length))
        text = text.title() if rng.random() < 0.4 else text
    if not korean and rng.random() < 0.3:
        text = text.upper()
    fonts = designs.korean_fonts if korean else designs.latin_fonts
    return text, pick(rng, fonts)


def _written(
    rng: np.random.Generator, text: str, font: str, width: float, angle: float, most: float
) -> np.ndarray:
    """``text`` about ``width`` pixels long, at most ``most`` high; filled or in outline."""
    if "ⓒ" in text and not font.startswith("Nanum"):  # the other fonts lack it
        text = text.replace("ⓒ", "©")
    size = 32
    length = _font(font, size).getlength(text)
    size = round(min(max(8.0, size * width / max(length, 1)), max(8.0, most)))
    face = _font(font, size)
    left, top, right, bottom = face.getbbox(text)
    outline = size >= 20 and rng.random() < 0.15
    image = Image.new("L", (int(right - left) + 6, int(bottom - top) + 6))
    draw = ImageDraw.Draw(image)
    place = (3 - left, 3 - top)
    if outline:
        draw.text(place, text, 255, face, stroke_width=1)
        draw.text(place, text, 0, face)
    else:
        draw.text(place, text, 255, face)
    if angle:
        image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    return np.asarray(image, np.float32) / 255


@functools.lru_cache(maxsize=512)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    if name.startswith("Nanum"):
        return ImageFont.truetype(str(korean_font_path().with_name(name)), size)
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    return ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data/fonts/ttf" / name), size)


def _shape(rng: np.random.Generator, designs: Designs, size: float) -> np.ndarray:
    """A shape, sometimes with letters in it."""
    side = max(12, round(size))
    image = Image.new("L", (side * _SMOOTH, side * _SMOOTH))
    name = pick(rng, designs.shapes)
    stroke = max(_SMOOTH, round(side * _SMOOTH * rng.uniform(0.03, 0.1)))
    _SHAPES[name](ImageDraw.Draw(image), side * _SMOOTH - 1.0, stroke)
    patch = _shrunk(image)
    if rng.random() < 0.4 and name not in ("copyright", "aperture", "bars", "rings"):
        text, font = _words(rng, designs)
        letters = _written(rng, text[:2].strip("@#© ") or "A", font, side * 0.5, 0.0, side * 0.5)
        top, left = (side - letters.shape[0]) // 2, (side - letters.shape[1]) // 2
        inside = np.zeros_like(patch)
        _put(inside, letters, top, left)
        patch = np.abs(patch - inside)  # written into what is full, onto what is empty
    return patch


def _points(
    number: int, side: float, turn: float, radius: float = 1.0
) -> list[tuple[float, float]]:
    middle = side / 2
    return [
        (
            middle + radius * middle * math.sin(2 * math.pi * (each + turn) / number),
            middle - radius * middle * math.cos(2 * math.pi * (each + turn) / number),
        )
        for each in range(number)
    ]


def _star(draw: ImageDraw.ImageDraw, side: float, stroke: int) -> None:
    outer, inner = _points(5, side, 0), _points(5, side, 0.5, 0.4)
    draw.polygon([point for pair in zip(outer, inner, strict=True) for point in pair], 255)


def _heart(draw: ImageDraw.ImageDraw, side: float, stroke: int) -> None:
    draw.ellipse((0, side * 0.05, side * 0.52, side * 0.57), 255)
    draw.ellipse((side * 0.48, side * 0.05, side, side * 0.57), 255)
    draw.polygon([(side * 0.05, side * 0.43), (side * 0.95, side * 0.43), (side / 2, side)], 255)


def _shield(draw: ImageDraw.ImageDraw, side: float, stroke: int) -> None:
    corners = [(0.08, 0.05), (0.92, 0.05), (0.92, 0.55), (0.5, 0.98), (0.08, 0.55)]
    draw.polygon([(x * side, y * side) for x, y in corners], outline=255, width=stroke)


def _rings(draw: ImageDraw.ImageDraw, side: float, stroke: int) -> None:
    draw.ellipse((0, side * 0.2, side * 0.6, side * 0.8), outline=255, width=stroke)
    draw.ellipse((side * 0.4, side * 0.2, side, side * 0.8), outline=255, width=stroke)


def _aperture(draw: ImageDraw.ImageDraw, side: float, stroke: int) -> None:
    draw.ellipse((0, 0, side, side), outline=255, width=stroke)
    rim, hub = _points(6, side, 0), _points(6, side, 1, 0.4)
    for start, end in zip(rim, hub, strict=True):
        draw.line((*start, *end), 255, stroke)


def _copyright(draw: ImageDraw.ImageDraw, side: float, stroke: int) -> None:
    draw.ellipse((0, 0, side, side), outline=255, width=stroke)
    draw.arc((side * 0.25, side * 0.25, side * 0.75, side * 0.75), 45, 315, 255, stroke)


def _bars(draw: ImageDraw.ImageDraw, side: float, stroke: int) -> None:
    for number, high in enumerate((0.9, 0.6, 1.0, 0.4)):
        left = number * side / 4
        draw.rectangle((left, side * (1 - high), left + side / 6, side), 255)


def _polygon(number: int, turn: float) -> Shape:
    def draw_it(draw: ImageDraw.ImageDraw, side: float, stroke: int) -> None:
        draw.polygon(_points(number, side, turn), outline=255, width=stroke)

    return draw_it


_SHAPES: dict[str, Shape] = {
    "ring": lambda draw, side, stroke: draw.ellipse((0, 0, side, side), outline=255, width=stroke),
    "disc": lambda draw, side, stroke: draw.ellipse((0, 0, side, side), 255),
    "square": lambda draw, side, stroke: draw.rectangle(
        (0, 0, side, side), outline=255, width=stroke
    ),
    "diamond": _polygon(4, 0),
    "hexagon": _polygon(6, 0.5),
    "triangle": _polygon(3, 0),
    "copyright": _copyright,
    "bars": _bars,
    "star": _star,
    "shield": _shield,
    "heart": _heart,
    "rings": _rings,
    "aperture": _aperture,
}


def _cross(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, stroke: int
) -> None:
    draw.line((0, 0, width, height), 255, stroke)
    draw.line((0, height, width, 0), 255, stroke)


def _grid(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, stroke: int
) -> None:
    step = rng.uniform(0.15, 0.5) * min(width, height)
    for number in range(1, math.ceil(max(width, height) / step)):
        draw.line((number * step, 0, number * step, height), 255, stroke)
        draw.line((0, number * step, width, number * step), 255, stroke)


def _diagonals(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, stroke: int
) -> None:
    step, way = rng.uniform(0.15, 0.5) * min(width, height), pick(rng, (-1, 1))
    slope = rng.uniform(0.5, 2) * way * height
    for number in range(-20, 40):
        y = number * step
        draw.line((0, y, width, y + slope), 255, stroke)


def _target(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, stroke: int
) -> None:
    radius = rng.uniform(0.15, 0.4) * min(width, height)
    x, y = width / 2, height / 2
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=255, width=stroke)
    for start, end in ((0, x - radius), (x + radius, width)):
        draw.line((start, y, end, y), 255, stroke)
    for start, end in ((0, y - radius), (y + radius, height)):
        draw.line((x, start, x, end), 255, stroke)


def _lattice(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, stroke: int
) -> None:
    step = rng.uniform(0.2, 0.5) * min(width, height)
    for number in range(-20, 40):
        y = number * step
        draw.line((0, y, width, y + width), 255, stroke)
        draw.line((0, y, width, y - width), 255, stroke)


def _rays(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, stroke: int
) -> None:
    x, y = width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7)
    number = int(rng.integers(6, 13))
    for each in range(number):
        angle = 2 * math.pi * each / number
        far = (width + height) * math.cos(angle), (width + height) * math.sin(angle)
        draw.line((x, y, x + far[0], y + far[1]), 255, stroke)


_LINES: dict[str, Callable[[ImageDraw.ImageDraw, np.random.Generator, int, int, int], None]] = {
    "cross": _cross,
    "grid": _grid,
    "diagonals": _diagonals,
    "target": _target,
    "lattice": _lattice,
    "rays": _rays,
}


def _shrunk(image: Image.Image) -> np.ndarray:
    small = image.reduce(_SMOOTH)
    return np.asarray(small, np.float32) / 255


def _stacked(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    width = max(above.shape[1], below.shape[1])
    whole = np.zeros((above.shape[0] + below.shape[0], width), np.float32)
    _put(whole, above, 0, (width - above.shape[1]) // 2)
    _put(whole, below, above.shape[0], (width - below.shape[1]) // 2)
    return whole


def _place(rng: np.random.Generator, cover_HW: np.ndarray, patch: np.ndarray) -> tuple[int, int]:
    """Top and left of a patch: in the middle, or anywhere."""
    free_y, free_x = cover_HW.shape[0] - patch.shape[0], cover_HW.shape[1] - patch.shape[1]
    if rng.random() < 0.3:
        return free_y // 2, free_x // 2
    top = int(rng.uniform(min(0, free_y), max(1, free_y)))
    return top, int(rng.uniform(min(0, free_x), max(1, free_x)))


def _put(cover_HW: np.ndarray, patch: np.ndarray, top: int, left: int) -> None:
    """Lay a patch at a place that may be partly outside."""
    height, width = cover_HW.shape
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + patch.shape[0]), min(width, left + patch.shape[1])
    if y0 < y1 and x0 < x1:
        seen = cover_HW[y0:y1, x0:x1]
        np.maximum(seen, patch[y0 - top : y1 - top, x0 - left : x1 - left], out=seen)


# What is no mark.


def _caption(pixels_HWC: np.ndarray, rng: np.random.Generator, designs: Designs) -> np.ndarray:
    """Opaque words, on a bar of their own or straight on the photo."""
    height, width = pixels_HWC.shape[:2]
    image = Image.fromarray(pixels_HWC)
    text, font = _words(rng, designs)
    most = max(12.0, rng.uniform(0.08, 0.18) * height)
    patch = _written(rng, text, font, rng.uniform(0.4, 0.95) * width, 0.0, most)
    ink = tuple(int(each) for each in _ink(rng))
    y = int(pick(rng, (0.03, 0.8, rng.uniform(0, 0.85))) * height)
    x = int(rng.uniform(0, max(1, width - patch.shape[1])))
    if rng.random() < 0.5:
        ground = tuple(255 - each for each in ink)
        bar = (0, y - 2, width, y + patch.shape[0] + 2)
        if rng.random() < 0.5:
            bar = (x - 4, y - 2, x + patch.shape[1] + 4, y + patch.shape[0] + 2)
        ImageDraw.Draw(image).rectangle(bar, ground)
    image.paste(ink, (x, y), Image.fromarray((patch * 255).astype(np.uint8)))
    return np.asarray(image)


def _tag(pixels_HWC: np.ndarray, rng: np.random.Generator, designs: Designs) -> np.ndarray:
    """An opaque sticker with a price or a word."""
    height, width = pixels_HWC.shape[:2]
    image = Image.fromarray(pixels_HWC)
    side = rng.uniform(0.15, 0.35) * min(height, width)
    x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
    box = (x, y, x + side, y + side * pick(rng, (1.0, 1.0, 0.45)))
    draw = ImageDraw.Draw(image)
    ground = tuple(int(each) for each in rng.uniform(0, 255, 3))
    if rng.random() < 0.5:
        draw.ellipse(box, ground)
    else:
        draw.rounded_rectangle(box, side * rng.uniform(0, 0.2), ground)
    price = f"{int(rng.integers(1, 99))},{int(rng.integers(0, 9))}00"
    text = pick(rng, ("SALE", "NEW", "BEST", f"{int(rng.integers(5, 90))}%", price + "원"))
    patch = _written(rng, text, "NanumGothicBold.ttf", side * 0.8, 0.0, side * 0.4)
    ink = (255, 255, 255) if sum(ground) < 400 else (0, 0, 0)
    at = (int(x + (side - patch.shape[1]) / 2), int((box[1] + box[3] - patch.shape[0]) / 2))
    image.paste(ink, at, Image.fromarray((patch * 255).astype(np.uint8)))
    return np.asarray(image)


def _print(pixels_HWC: np.ndarray, rng: np.random.Generator, designs: Designs) -> np.ndarray:
    """Ink that takes the light and the folds of the cloth, and its slant."""
    height, width = pixels_HWC.shape[:2]
    size = rng.uniform(0.15, 0.55) * width
    if rng.random() < 0.6:
        text, font = _words(rng, designs)
        patch = _written(rng, text, font, size, rng.uniform(-15, 15), height * 0.2)
    else:
        patch = _shape(rng, designs, size * 0.7)
    image = Image.fromarray((patch * 255).astype(np.uint8))
    lean, shear = rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2)
    image = image.transform(
        image.size, Image.Transform.AFFINE, (1, lean, 0, shear, 1, 0), Image.Resampling.BILINEAR
    ).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    cover_HW = np.zeros((height, width), np.float32)
    free_y, free_x = height - image.height, width - image.width
    top, left = int(free_y * rng.uniform(0.2, 0.8)), int(free_x * rng.uniform(0.2, 0.8))
    _put(cover_HW, np.asarray(image, np.float32) / 255, top, left)
    grey = Image.fromarray(pixels_HWC).convert("L").filter(ImageFilter.GaussianBlur(1))
    light_HW = np.asarray(grey, np.float32) / 255
    within = cover_HW > 0.5
    mean = float(light_HW[within].mean()) if within.any() else 0.5
    shade_HW1 = np.clip(light_HW / max(mean, 0.05), 0.3, 1.6)[..., None]
    alpha_HW1 = (cover_HW * rng.uniform(0.8, 1.0))[..., None]
    inked_HWC = _ink(rng) * rng.uniform(0.6, 1.0) * shade_HW1
    mixed_HWC = pixels_HWC * (1 - alpha_HW1) + inked_HWC * alpha_HW1
    return mixed_HWC.round().clip(0, 255).astype(np.uint8)


def _frame(pixels_HWC: np.ndarray, rng: np.random.Generator, designs: Designs) -> np.ndarray:
    height, width = pixels_HWC.shape[:2]
    image = Image.fromarray(pixels_HWC)
    colour = tuple(int(each) for each in _ink(rng))
    thick = max(1, round(rng.uniform(0.005, 0.08) * min(height, width)))
    ImageDraw.Draw(image).rectangle((0, 0, width - 1, height - 1), outline=colour, width=thick)
    return np.asarray(image)
