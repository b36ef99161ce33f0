"""A picture: one garment, or two or three apart from each other, on a background."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from PIL import Image

from kmm_jax.data.shop.backgrounds import BACKGROUNDS
from kmm_jax.data.shop.render import Cutout, Slot, cut_out, lay
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, Garment

Box = tuple[int, int, int, int]

SUPERSAMPLING = 2

# Parts of the picture for two and for three garments: x0, y0, x1, y1 as shares of the side.
_ARRANGEMENTS: dict[int, tuple[tuple[Slot, ...], ...]] = {
    2: (
        ((0.02, 0.08, 0.5, 0.92), (0.5, 0.08, 0.98, 0.92)),
        ((0.02, 0.03, 0.52, 0.53), (0.48, 0.53, 0.98, 0.98)),
        ((0.48, 0.03, 0.98, 0.5), (0.02, 0.5, 0.52, 0.98)),
        ((0.1, 0.02, 0.9, 0.5), (0.1, 0.5, 0.9, 0.98)),
    ),
    3: (
        ((0.02, 0.03, 0.5, 0.5), (0.5, 0.03, 0.98, 0.5), (0.22, 0.5, 0.78, 0.98)),
        ((0.22, 0.03, 0.78, 0.5), (0.02, 0.5, 0.5, 0.98), (0.5, 0.5, 0.98, 0.98)),
        ((0.02, 0.04, 0.5, 0.96), (0.5, 0.04, 0.98, 0.5), (0.5, 0.5, 0.98, 0.96)),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a picture shows: the garments and the key of the background."""

    garments: tuple[Garment, ...]
    background: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A painted scene: RGB image, one box a garment in pixels (x1, y1 exclusive), the cutouts.

    The cutouts are `SUPERSAMPLING` times as large as the image.
    """

    image: Image.Image
    boxes: tuple[Box, ...]
    cutouts: tuple[Cutout, ...]


def paint(scene: Scene, image_size: int, rng: Random) -> Picture:
    """Paint ``scene`` as a square of ``image_size`` pixels a side."""
    side = image_size * SUPERSAMPLING
    avoid = [COLOURS_BY_KEY[garment.colour].rgb for garment in scene.garments]
    canvas = BACKGROUNDS[scene.background].draw(side, avoid, rng)
    cutouts = tuple(
        cut_out(garment, slot, rng, tilt=0.16 if len(scene.garments) == 1 else 0.12)
        for garment, slot in zip(
            scene.garments, _slots(len(scene.garments), side, rng), strict=True
        )
    )
    for cutout in cutouts:
        lay(canvas, cutout)
    return Picture(
        image=canvas.reduce(SUPERSAMPLING),
        boxes=tuple(_shrink(cutout.box) for cutout in cutouts),
        cutouts=cutouts,
    )


def _slots(count: int, side: int, rng: Random) -> list[Slot]:
    if count == 1:
        width = side * rng.uniform(0.78, 0.97)
        x, y = rng.uniform(0, side - width), rng.uniform(0, side - width)
        return [(x, y, x + width, y + width)]
    slots = []
    for x0, y0, x1, y1 in rng.choice(_ARRANGEMENTS[count]):
        width, height = (x1 - x0) * rng.uniform(0.88, 1.0), (y1 - y0) * rng.uniform(0.88, 1.0)
        x = x0 + rng.uniform(0, x1 - x0 - width)
        y = y0 + rng.uniform(0, y1 - y0 - height)
        slots.append((x * side, y * side, (x + width) * side, (y + height) * side))
    rng.shuffle(slots)
    return slots


def _shrink(box: Box) -> Box:
    """The box in pixels of the final picture, rounded outwards."""
    x0, y0, x1, y1 = box
    return (
        x0 // SUPERSAMPLING,
        y0 // SUPERSAMPLING,
        -(-x1 // SUPERSAMPLING),
        -(-y1 // SUPERSAMPLING),
    )
