from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.augment import AugmentConfig, augment, resize_centre, sides_needed
from kmm_jax.errors import ConfigError

from .conftest import jpeg

WHOLE = AugmentConfig(scale=(1, 1), ratio=(1, 1), flip=0)


@pytest.fixture
def image() -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg(5, (90, 70)))))


def test_the_result_is_a_function_of_the_generators_state(image: np.ndarray) -> None:
    config = AugmentConfig(brightness=0.3, contrast=0.3, saturation=0.3)
    first, again, other = (
        augment(image, np.random.default_rng(seed), 32, config) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (32, 32, 3) and first.dtype == np.uint8
    picture = augment(Image.fromarray(image), np.random.default_rng(1), 32, config)
    np.testing.assert_array_equal(first, picture)


def test_a_whole_square_crop_is_plain_bicubic_resizing() -> None:
    square = np.asarray(Image.open(io.BytesIO(jpeg(5, (80, 80)))))
    expected = Image.fromarray(square).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(
        augment(square, np.random.default_rng(0), 32, WHOLE), np.asarray(expected)
    )


def test_flips_come_as_often_as_asked() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3))
    for flip in (0.0, 0.3, 1.0):
        config = AugmentConfig(scale=(1, 1), ratio=(1, 1), flip=flip)
        rng = np.random.default_rng(0)
        results = [augment(np.ascontiguousarray(ramp), rng, 16, config) for _ in range(300)]
        share = np.mean([result[0, 0, 0] > result[0, -1, 0] for result in results])
        assert abs(share - flip) < 0.08


def test_crops_keep_to_the_range_of_scale_and_ratio() -> None:
    y, x = np.mgrid[0:200, 0:200]
    positions = np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8)
    config = AugmentConfig(scale=(0.3, 0.6), ratio=(0.8, 1.25), flip=0)
    rng = np.random.default_rng(0)
    for _ in range(100):
        crop = augment(positions, rng, 100, config).astype(float)
        width = (crop[50, 90, 0] - crop[50, 10, 0]) / 0.8
        height = (crop[90, 50, 1] - crop[10, 50, 1]) / 0.8
        assert 0.27 < width * height / 200**2 < 0.66
        assert 0.74 < width / height < 1.35


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_images_of_any_shape_give_a_square(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (10, 20, 30))
    result = augment(picture, np.random.default_rng(0), 24)
    np.testing.assert_array_equal(result, np.full((24, 24, 3), [10, 20, 30]))
    np.testing.assert_array_equal(resize_centre(picture, 24), result)


def test_the_centre_is_kept() -> None:
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 30:70] = 200
    assert (resize_centre(wide, 20) == 200).mean() > 0.75
    assert (resize_centre(wide.transpose(1, 0, 2), 20) == 200).mean() > 0.75


def test_downscaling_is_antialiased() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    result = resize_centre(stripes, 16)
    assert np.abs(result.astype(int) - 127).max() < 12


def test_colour_stays_as_it_is_unless_asked() -> None:
    grey = Image.new("RGB", (30, 30), (90, 140, 200))
    rng = np.random.default_rng(0)
    for _ in range(20):
        np.testing.assert_array_equal(augment(grey, rng, 8)[0, 0], [90, 140, 200])
    bright = [augment(grey, rng, 8, AugmentConfig(brightness=0.5))[0, 0, 0] for _ in range(50)]
    assert min(bright) < 60 and max(bright) > 120 and min(bright) >= 44


def test_the_smallest_crop_still_has_the_pixels() -> None:
    side = sides_needed(64, AugmentConfig(scale=(0.25, 1.0)))
    assert side == 128
    assert side**2 * 0.25 >= 64**2


@pytest.mark.parametrize(
    "bad",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (0.9, 0.5)},
        {"scale": (0.5, 1.5)},
        {"ratio": (2.0, 1.0)},
        {"flip": 1.5},
        {"brightness": -0.1},
    ],
)
def test_settings_that_cannot_work_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"augment.{next(iter(bad))}"):
        AugmentConfig(**bad)
