"""From a garment to pixels: its shapes deformed, fitted to a slot, filled, outlined and shaded."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from kmm_jax.data.shop import accessories, bottoms, carried, footwear, outerwear, patterns, tops
from kmm_jax.data.shop.dyes import Dye, dye
from kmm_jax.data.shop.geometry import Patch, Point, Shape
from kmm_jax.data.shop.vocabulary import Garment

Slot = tuple[float, float, float, float]

DRAWINGS: Mapping[str, Callable[[Mapping[str, str], Random], list[Shape]]] = {
    "tshirt": tops.tshirt,
    "shirt": tops.shirt,
    "knit": tops.knit,
    "hoodie": tops.hoodie,
    "jacket": outerwear.jacket,
    "coat": outerwear.coat,
    "vest": outerwear.vest,
    "dress": bottoms.dress,
    "skirt": bottoms.skirt,
    "trousers": bottoms.trousers,
    "shorts": bottoms.shorts,
    "hat": accessories.hat,
    "sneakers": footwear.sneakers,
    "heels": footwear.heels,
    "boots": footwear.boots,
    "socks": footwear.socks,
    "handbag": carried.handbag,
    "backpack": carried.backpack,
    "scarf": accessories.scarf,
    "tie": accessories.tie,
    "gloves": accessories.gloves,
    "umbrella": carried.umbrella,
}

# Seen from the side, these face either way; the rest is symmetric enough as it is.
_SIDED = frozenset({"sneakers", "heels", "boots", "socks", "hat"})
_MARGIN = 3


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """A painted garment: RGB pixels, their mask (L, 0 or 255), and where its corner goes."""

    image: Image.Image
    mask: Image.Image
    corner: tuple[int, int]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The bounds of the painted pixels on the canvas: x0, y0, x1, y1, the last exclusive."""
        x0, y0, x1, y1 = self.mask.getbbox() or (0, 0, 1, 1)
        dx, dy = self.corner
        return x0 + dx, y0 + dy, x1 + dx, y1 + dy


def cut_out(garment: Garment, slot: Slot, rng: Random, *, tilt: float = 0.2) -> Cutout:
    """Paint ``garment`` as large as it fits into ``slot`` (x0, y0, x1, y1 in pixels), centred.

    ``tilt`` is the greatest rotation, in radians.
    """
    shapes = DRAWINGS[garment.kind](garment.attributes, rng)
    angle = rng.uniform(-tilt, tilt)
    outlines = _deform([shape.points for shape in shapes], angle, rng, garment.kind in _SIDED)
    thickest = max((0.0 if isinstance(s, Patch) else s.width for s in shapes), default=0.0) / 2
    left = min(x for points in outlines for x, _ in points) - thickest
    right = max(x for points in outlines for x, _ in points) + thickest
    top = min(y for points in outlines for _, y in points) - thickest
    bottom = max(y for points in outlines for _, y in points) + thickest
    x0, y0, x1, y1 = slot
    room_x, room_y = x1 - x0 - 2 * _MARGIN, y1 - y0 - 2 * _MARGIN
    scale = min(room_x / (right - left), room_y / (bottom - top))
    size = (
        math.ceil((right - left) * scale) + 2 * _MARGIN,
        math.ceil((bottom - top) * scale) + 2 * _MARGIN,
    )
    corner = (max(0, int((x0 + x1 - size[0]) / 2)), max(0, int((y0 + y1 - size[1]) / 2)))
    placed = [
        [((x - left) * scale + _MARGIN, (y - top) * scale + _MARGIN) for x, y in points]
        for points in outlines
    ]
    colours = dye(garment.colour, garment.ink, rng)
    pitch = max(13.0, 0.14 * (size[0] + size[1]) / 2 * rng.uniform(0.85, 1.2))
    fabric = patterns.cloth(
        garment.pattern,
        size,
        base=colours.base,
        ink=colours.ink,
        pitch=pitch,
        angle=angle,
        rng=rng,
    )
    image, mask = _paint(shapes, placed, scale, fabric, colours)
    _shade(image, rng)
    return Cutout(image=image, mask=mask, corner=corner)


def _deform(
    outlines: Sequence[Sequence[Point]], angle: float, rng: Random, sided: bool
) -> list[list[Point]]:
    """Rotate, lean, taper and ripple every outline alike, so that no two pieces hang the same."""
    lean, taper = rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06)
    stretch, ripple = rng.uniform(0.93, 1.07), rng.uniform(-0.025, 0.025)
    phase = rng.uniform(0, 2 * math.pi)
    sign = -1.0 if sided and rng.random() < 0.5 else 1.0
    cos, sin = math.cos(angle), math.sin(angle)
    deformed = []
    for points in outlines:
        outline = []
        for x, y in points:
            u = x * sign * stretch * (1 + taper * y) + lean * y + ripple * math.sin(3 * y + phase)
            v = y + ripple * math.sin(3 * x - phase)
            outline.append((cos * u - sin * v, sin * u + cos * v))
        deformed.append(outline)
    return deformed


def _paint(
    shapes: Sequence[Shape],
    placed: Sequence[Sequence[Point]],
    scale: float,
    fabric: Image.Image,
    colours: Dye,
) -> tuple[Image.Image, Image.Image]:
    image = Image.new("RGB", fabric.size, colours.base)
    mask = Image.new("L", fabric.size, 0)
    on_image, on_mask = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    seam = max(2, round(0.024 * scale))
    line = colours.fills["line"]
    for shape, points in zip(shapes, placed, strict=True):
        if isinstance(shape, Patch):
            if shape.fill == "cloth":
                area = Image.new("1", fabric.size, 0)
                ImageDraw.Draw(area).polygon(points, fill=1)
                image.paste(fabric, (0, 0), area)
            else:
                on_image.polygon(points, fill=colours.fills[shape.fill])
            closed = [*points, points[0]]
            on_image.line(closed, fill=line, width=seam)
            on_mask.polygon(points, fill=255)
            on_mask.line(closed, fill=255, width=seam)
        else:
            width = max(1, round(shape.width * scale))
            joint = "curve" if width > 3 else None
            on_image.line(points, fill=colours.fills[shape.fill], width=width, joint=joint)
            on_mask.line(points, fill=255, width=width, joint=joint)
    return image, mask


@functools.cache
def _ramps() -> tuple[Image.Image, Image.Image]:
    """Shadow that grows to the right, light that grows to the left; small, to be enlarged."""
    ramp = Image.linear_gradient("L").resize((32, 32)).transpose(Image.Transpose.ROTATE_90)
    return ramp.point(lambda v: v * 0.26), ramp.point(lambda v: (255 - v) * 0.16)


def _shade(image: Image.Image, rng: Random) -> None:
    """Light from one side, over the whole piece."""
    shadow, light = _ramps()
    if rng.random() < 0.5:
        shadow, light = (
            shadow.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            light.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        )
    image.paste((18, 12, 36), (0, 0), shadow.resize(image.size, Image.Resampling.BILINEAR))
    image.paste((255, 255, 255), (0, 0), light.resize(image.size, Image.Resampling.BILINEAR))


def lay(canvas: Image.Image, cutout: Cutout) -> None:
    """Put a cutout on a canvas, above its own soft shadow."""
    width, height = cutout.mask.size
    pad, shrink = 8, 4
    small = (max(1, (width + 2 * pad) // shrink), max(1, (height + 2 * pad) // shrink))
    padded = Image.new("L", (width + 2 * pad, height + 2 * pad), 0)
    padded.paste(cutout.mask, (pad, pad))
    soft = padded.resize(small, Image.Resampling.BOX).filter(ImageFilter.BoxBlur(1))
    soft = soft.point(lambda v: v * 0.36).resize(padded.size, Image.Resampling.BILINEAR)
    x, y = cutout.corner
    canvas.paste((30, 24, 40), (x - pad + 3, y - pad + 5), soft)
    canvas.paste(cutout.image, cutout.corner, cutout.mask)
