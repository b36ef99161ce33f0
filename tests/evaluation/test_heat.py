"""Heat-maps enlarged, their maximum and the region around it."""

import jax
import numpy as np
import pytest

from kmm_jax.evaluation.heat import (
    cells_within,
    enlarge,
    outstanding,
    peak,
    region_box,
    relative,
)


def random_heat(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("grid", "size"), [(4, 32), (7, 30), (5, 5), (1, 8)])
def test_enlarging_equals_jaxs_bilinear_resize(grid, size):
    heat = random_heat(3, grid, grid)
    expected = jax.image.resize(heat, (3, size, size), method="bilinear")
    np.testing.assert_allclose(enlarge(heat, size), expected, atol=1e-5)


def test_each_map_is_relative_to_its_own_minimum_and_maximum():
    heat = random_heat(3, 4, 4) * np.asarray([1, 100, 1e-3])[:, None, None] + 7
    found = relative(heat)
    np.testing.assert_array_equal(found.min(axis=(1, 2)), 0)
    np.testing.assert_array_equal(found.max(axis=(1, 2)), 1)
    np.testing.assert_array_equal(found.argmax(axis=2), heat.argmax(axis=2))


def test_a_flat_map_is_at_its_minimum_and_marked_whole():
    assert (relative(np.full((1, 3, 3), 7.0)) == 0).all()
    assert outstanding(np.full((1, 3, 3), -2.5)).all()


def test_the_peak_is_the_centre_of_its_patch():
    heat = np.zeros((4, 4))
    heat[1, 3] = 1
    assert peak(heat) == (3.5 / 4, 1.5 / 4)


def test_the_region_is_what_hangs_together_around_the_maximum():
    heat = np.zeros((8, 8))
    heat[1:3, 1:4] = 0.8
    heat[2, 2] = 1.0
    heat[5:8, 6:8] = 0.9  # stands out as well, elsewhere
    heat[3, 4] = 0.9  # only its corner touches
    assert region_box(heat, 8) == (1 / 8, 1 / 8, 4 / 8, 3 / 8)
    assert region_box(np.ones((4, 4)), 16) == (0, 0, 1, 1)


def test_a_lower_floor_lets_the_region_grow():
    heat = np.zeros((8, 8))
    heat[3, 2:7] = (0.3, 0.7, 1.0, 0.7, 0.3)
    assert region_box(heat, 8) == (3 / 8, 3 / 8, 6 / 8, 4 / 8)
    assert region_box(heat, 8, floor=0.2) == (2 / 8, 3 / 8, 7 / 8, 4 / 8)


def test_the_region_follows_a_winding_path():
    heat = np.zeros((5, 5))
    heat[0, :] = heat[:, 4] = heat[4, :] = heat[2:, 0] = heat[2, 0:3] = 0.7
    heat[2, 2] = 1
    assert region_box(heat, 5) == (0, 0, 1, 1)


@pytest.mark.parametrize("side", [1, 4, 13])
def test_cells_within_a_box_are_those_whose_centre_is(side):
    rng = np.random.default_rng(1)
    boxes = np.sort(rng.random((50, 2, 2)), axis=1).reshape(50, 4)
    boxes[0] = (0, 0, 1, 1)
    found = cells_within(boxes, side)
    for (x0, y0, x1, y1), cells in zip(boxes, found, strict=True):
        for row in range(side):
            for column in range(side):
                x, y = (column + 0.5) / side, (row + 0.5) / side
                assert cells[row, column] == (x0 <= x < x1 and y0 <= y < y1)
    assert found[0].all()
