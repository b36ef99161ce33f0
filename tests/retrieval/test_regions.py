"""Boxes of people and of heat-maps, and what is cut out by them."""

import numpy as np
import pytest
from PIL import Image

from kmm_jax.errors import UserError
from kmm_jax.retrieval.regions import checked_box, cropped, find_box, located


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 1), (0.5, 0, 0.2, 1), (0, 0.3, 1, 0.3), (-0.1, 0, 1, 1), (0, 0, 1.01, 1),
        (float("nan"), 0, 1, 1), (0, 0, float("inf"), 1), (0, 0, 1), (0, 0, 1, 1, 1), "0111", None,
        ("a", 0, 1, 1),
    ],
)  # fmt: skip
def test_what_is_no_box_is_refused(box) -> None:
    with pytest.raises(UserError, match="a box is"):
        checked_box(box)


@pytest.mark.parametrize("size", [(100, 100), (300, 100), (100, 300), (8, 8), (1, 1), (500, 3)])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.8, 0.1, 1, 0.2), (0, 0.4, 0.1, 0.9),
                                 (0.5, 0.5, 0.5 + 1e-9, 0.5 + 1e-9)])  # fmt: skip
def test_what_is_cut_out_lies_within_and_holds_the_box(size, box) -> None:
    width, height = size
    across = np.tile(np.arange(width) * 255 // max(1, width - 1), (height, 1)).astype(np.uint8)
    down = np.tile(np.arange(height)[:, None] * 255 // max(1, height - 1), (1, width))
    picture = Image.fromarray(np.stack([across, down.astype(np.uint8), across], axis=2))
    found = cropped(picture, box, margin=0)
    assert 1 <= found.width <= width and 1 <= found.height <= height
    if min(found.size) < min(size):  # where there was room it is square
        assert abs(found.width - found.height) <= 1
    pixels = np.asarray(found)
    for axis, low, high, whole in ((0, box[0], box[2], width), (1, box[1], box[3], height)):
        least, most = pixels[..., axis].min() / 255, pixels[..., axis].max() / 255
        assert least <= low + 1.5 / whole and most >= high - 1.5 / whole


def test_a_margin_shows_what_is_around() -> None:
    picture = Image.new("RGB", (100, 100))
    box = (0.4, 0.4, 0.6, 0.6)
    assert cropped(picture, box, margin=0).size == (20, 20)
    assert cropped(picture, box, margin=0.25).size == (30, 30)


@pytest.mark.parametrize("size", [(160, 160), (320, 160), (160, 200)])
def test_a_planted_thing_is_found_where_it_was_planted(size) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        heat_GG = 0.1 * generator.random((8, 8))
        row, column, rows, columns = generator.integers([0, 0, 2, 2], [4, 4, 5, 5])
        heat_GG[row : row + rows, column : column + columns] += 1
        heat_GG[row, column] += 0.1
        if generator.random() < 0.5:
            heat_GG[7, 7] = 0.9 if row + rows < 7 and column + columns < 7 else heat_GG[7, 7]
        x0, y0, x1, y1 = located(heat_GG, size)
        width, height = size
        side = min(size)
        planted = np.array([column, row, column + columns, row + rows]) / 8 * side
        planted += np.tile([(width - side) / 2, (height - side) / 2], 2)
        found = np.array([x0 * width, y0 * height, x1 * width, y1 * height])
        np.testing.assert_allclose(found, planted, atol=side / 16)
        checked_box((x0, y0, x1, y1))


def test_a_flat_map_says_nothing() -> None:
    assert located(np.ones((4, 4)), (10, 10)) is None
    assert located(np.full((4, 4), np.nan), (10, 10)) is None

    class Flat:
        def heat_map(self, images, texts):
            return np.zeros((1, 4, 4))

    assert find_box(Flat(), Image.new("RGB", (9, 9)), "신발") == (0, 0, 1, 1)
    with pytest.raises(UserError, match="no heat-maps"):
        find_box(object(), Image.new("RGB", (9, 9)), "신발")
