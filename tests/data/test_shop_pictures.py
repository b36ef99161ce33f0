"""The built-in shop: what is drawn is what is said, and boxes bound it."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.shop import PATTERNS, TYPES, ShopConfig
from kmm_jax.data.shop.dyes import INKS
from kmm_jax.data.shop.patterns import cloth
from kmm_jax.data.shop.render import cut_out
from kmm_jax.data.shop.scene import SUPERSAMPLING, Box
from kmm_jax.data.shop.shop import picture_of, scene_of
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, Garment


def painted(picture, cutout) -> np.ndarray:
    """The pixels of the final picture that a garment alone covers, wholly or in part."""
    side = picture.image.width * SUPERSAMPLING
    canvas = Image.new("L", (side, side), 0)
    canvas.paste(cutout.mask, cutout.corner, cutout.mask)
    return np.asarray(canvas.reduce(SUPERSAMPLING)) > 0


@pytest.mark.parametrize("size", [33, 64, 96])
def test_boxes_lie_in_the_image_and_bound_the_garment_alone(size):
    config = ShopConfig(items=0, seed=8, split="train", image_size=size, several_share=0.5)
    for index in range(60):
        picture = picture_of(config, index)
        for cutout, (x0, y0, x1, y1) in zip(picture.cutouts, picture.boxes, strict=True):
            assert 0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size
            seen = painted(picture, cutout)
            # No pixel of the garment was cut off by the canvas.
            assert (np.asarray(cutout.mask) > 0).sum() <= seen.sum() * SUPERSAMPLING**2
            ys, xs = np.nonzero(seen)
            assert xs.min() >= x0 and ys.min() >= y0
            assert xs.max() < x1 and ys.max() < y1
            assert max(xs.min() - x0, ys.min() - y0, x1 - 1 - xs.max(), y1 - 1 - ys.max()) <= 1


def test_garments_in_one_picture_do_not_hide_each_other():
    def overlap(a: Box, b: Box) -> float:
        width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        smaller = min((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
        return width * height / smaller

    config = ShopConfig(items=0, seed=9, split="train", several_share=1.0)
    for index in range(80):
        picture = picture_of(config, index)
        for a, b in itertools.combinations(picture.boxes, 2):
            assert overlap(a, b) < 0.2


def test_a_single_garment_fills_a_good_part_of_the_picture():
    config = ShopConfig(items=0, seed=9, split="train", several_share=0.0)
    for index in range(100):
        ((x0, y0, x1, y1),) = picture_of(config, index).boxes
        assert max(x1 - x0, y1 - y0) >= 0.6 * config.image_size


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab (D65) from sRGB 0 to 255, by the standard's formulas."""
    c = np.asarray(rgb, np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array(
        [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]]
    )
    f = xyz / [0.9505, 1.0, 1.089]
    f = np.where(f > (6 / 29) ** 3, np.cbrt(f), f / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )


def nearest_colour(rgb: np.ndarray) -> str:
    keys = list(COLOURS_BY_KEY)
    palette = to_lab(np.array([COLOURS_BY_KEY[key].rgb for key in keys]))
    return keys[int(np.argmin(np.linalg.norm(palette - to_lab(rgb), axis=-1)))]


def test_plain_garments_have_the_colour_they_are_named_by():
    config = ShopConfig(items=0, seed=2, split="train", several_share=0.0)
    right, total = 0, 0
    for index in range(1200):
        (garment,) = scene_of(config, index).garments
        if garment.pattern != "solid":
            continue
        picture = picture_of(config, index)
        inside = painted(picture, picture.cutouts[0])
        colour = np.median(np.asarray(picture.image)[inside], axis=0)
        right += nearest_colour(colour) == garment.colour
        total += 1
    assert total > 150
    assert right / total >= 0.97


@pytest.mark.parametrize("pattern", [key for key, _ in PATTERNS])
def test_pattern_leaves_most_of_the_cloth_in_the_base_colour(pattern):
    base, ink = (200, 30, 40), (250, 250, 250)
    for seed, pitch in itertools.product(range(4), (13.0, 18.0, 26.0)):
        piece = np.asarray(
            cloth(
                pattern,
                (160, 120),
                base=base,
                ink=ink,
                pitch=pitch,
                angle=0.1 * seed,
                rng=Random(seed),
            )
        ).astype(int)
        is_base = np.all(piece == base, axis=-1)
        share = is_base.mean()
        if pattern == "solid":
            assert share == 1.0
        else:
            assert 0.34 < share < 0.92
            assert share > np.all(piece == ink, axis=-1).mean()


def test_ink_never_has_the_colour_of_the_cloth():
    assert set(INKS) == set(COLOURS_BY_KEY)
    for colour, inks in INKS.items():
        for ink in inks:
            distance = to_lab(np.array(COLOURS_BY_KEY[colour].rgb)) - to_lab(
                np.array(COLOURS_BY_KEY[ink].rgb)
            )
            assert np.linalg.norm(distance) > 24, (colour, ink)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_option_changes_the_picture(kind):
    options = dict(KINDS[kind].options)
    default = {key: values[0] for key, values in options.items()}

    def picture(attributes: dict[str, str]) -> bytes:
        garment = Garment(kind=kind, colour="blue", pattern="solid", attributes=attributes)
        return cut_out(garment, (4, 4, 124, 124), Random("a"), tilt=0.0).image.tobytes()

    for key, values in options.items():
        assert len({picture({**default, key: value}) for value in values}) == len(values), key


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_combination_of_options_can_be_drawn(kind):
    names = [key for key, _ in KINDS[kind].options]
    for values in itertools.product(*(values for _, values in KINDS[kind].options)):
        attributes = dict(zip(names, values, strict=True))
        garment = Garment(
            kind=kind, colour="red", pattern="star", ink="white", attributes=attributes
        )
        cutout = cut_out(garment, (3, 5, 80, 70), Random(str(values)))
        x0, y0, x1, y1 = cutout.box
        assert 2 <= x0 < x1 <= 81 and 4 <= y0 < y1 <= 71
        assert max(x1 - x0, y1 - y0) > 40


def test_nearest_outline_tells_the_type_of_unseen_combinations():
    """A bare 1-nearest-neighbour on 16 x 16 silhouettes and edges, at 64 px."""

    def views(split, count):
        config = ShopConfig(items=0, seed=1, split=split, image_size=64, several_share=0.0)
        found, kinds = [], []
        for index in range(count):
            cutout = picture_of(config, index).cutouts[0]
            grey = np.asarray(cutout.image.convert("L").resize((16, 16)), np.float32) / 255
            mask = np.asarray(cutout.mask.resize((16, 16)), np.float32) / 255
            found.append(np.concatenate([3 * mask.ravel(), (grey * mask).ravel()]))
            kinds.append(scene_of(config, index).garments[0].kind)
        return np.array(found), np.array(kinds)

    seen, kinds = views("train", 900)
    unseen, truth = views("test", 220)
    distance = ((unseen[:, None] - seen[None]) ** 2).sum(-1)
    accuracy = (kinds[distance.argmin(1)] == truth).mean()
    assert accuracy > 10 / len(TYPES)
