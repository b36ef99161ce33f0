from __future__ import annotations

import colorsys
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from kmm_jax.data.augment import (
    AugmentConfig,
    _crop,
    augment,
    augmented,
    resize_centre,
    sides_needed,
)
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


def before_views_there_was(
    picture: Image.Image, rng: np.random.Generator, size: int, config: AugmentConfig
) -> np.ndarray:
    """What an augmentation was before it knew hue, greyscale, blur and solarising."""
    box = _crop(picture.size, rng, config)
    picture = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < config.flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhancer, reach in (
        (ImageEnhance.Brightness, config.brightness),
        (ImageEnhance.Contrast, config.contrast),
        (ImageEnhance.Color, config.saturation),
    ):
        if reach:
            picture = enhancer(picture).enhance(rng.uniform(1 - reach, 1 + reach))
    return np.asarray(picture)


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(),
        AugmentConfig(flip=0, contrast=0.5),
        AugmentConfig(scale=(0.1, 0.4), brightness=0.4, contrast=0.3, saturation=0.2),
    ],
    ids=["default", "contrast", "all colours"],
)
def test_without_the_new_settings_pixels_and_draws_are_what_they_were(
    image: np.ndarray, config: AugmentConfig
) -> None:
    now, before = (np.random.default_rng(7) for _ in range(2))
    for _ in range(10):
        np.testing.assert_array_equal(
            augment(image, now, 32, config),
            before_views_there_was(Image.fromarray(image), before, 32, config),
        )
    assert now.bit_generator.state == before.bit_generator.state


def still(**changes: Any) -> AugmentConfig:
    return AugmentConfig(scale=(1, 1), ratio=(1, 1), flip=0, **changes)


def share(
    config: AugmentConfig, picture: np.ndarray, happened: Callable[[np.ndarray], Any]
) -> float:
    """Of 400 results, how many it ``happened`` to."""
    rng = np.random.default_rng(0)
    size = len(picture)
    return float(np.mean([happened(augment(picture, rng, size, config)) for _ in range(400)]))


def test_grey_pictures_come_as_often_as_asked_and_are_lumas(image: np.ndarray) -> None:
    square = image[:64, :64]
    luma = np.asarray(Image.fromarray(square).convert("L"))
    for grey in (0.0, 0.2, 1.0):

        def is_grey(result: np.ndarray) -> bool:
            if (result == square).all():
                return False
            np.testing.assert_array_equal(result, np.repeat(luma[..., None], 3, axis=2))
            return True

        assert abs(share(still(grey=grey), square, is_grey) - grey) < 0.06


def test_solarising_comes_as_often_as_asked_and_inverts_from_128_on(image: np.ndarray) -> None:
    square = image[:64, :64]
    inverted = np.where(square < 128, square, 255 - square)
    for solarise in (0.0, 0.2, 1.0):

        def is_solarised(result: np.ndarray) -> bool:
            if (result == square).all():
                return False
            np.testing.assert_array_equal(result, inverted)
            return True

        assert abs(share(still(solarise=solarise), square, is_solarised) - solarise) < 0.06


def test_colours_are_left_alone_as_often_as_asked() -> None:
    picture = np.full((4, 4, 3), (90, 140, 200), np.uint8)
    colours = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    for jitter in (0.0, 0.8, 1.0):
        changed = share(
            still(jitter=jitter, **colours), picture, lambda result: (result != picture).any()
        )
        assert abs(changed - jitter) < 0.06


def blur_sigma(size: int, rng: np.random.Generator) -> float:
    """The blur's standard deviation in pixels, from what becomes of a white line."""
    line = np.zeros((size, size, 3), np.uint8)
    line[:, size // 2] = 255
    profile = augment(line, rng, size, still(blur=1.0))[size // 2, :, 0].astype(float)
    distance = np.arange(size) - size // 2
    return float(np.sqrt((profile * distance**2).sum() / profile.sum()))


def test_blur_comes_as_often_as_asked() -> None:
    rows = np.arange(224, dtype=np.uint8)[:, None, None] % 2 * np.full((224, 3), 255, np.uint8)
    for blur in (0.0, 0.5, 1.0):
        # The least sigma, 0.1, may round to no change at all.
        blurred = share(still(blur=blur), rows, lambda result: (result != rows).any())
        assert blur - 0.08 < blurred < blur + 0.06


def test_sigma_goes_from_a_tenth_to_two_pixels_at_224_and_grows_with_the_side() -> None:
    rng = np.random.default_rng(0)
    sigmas = [blur_sigma(224, rng) for _ in range(150)]
    assert max(sigmas) < 2.1 and min(sigmas) < 0.4
    assert abs(np.mean(sigmas) - 1.05) < 0.15
    doubled = np.mean([blur_sigma(448, rng) for _ in range(150)])
    assert abs(doubled - 2 * np.mean(sigmas)) < 0.35


def hue_of(pixel: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*(pixel / 255))[0]


def test_hues_turn_evenly_either_way_as_far_as_asked_and_nothing_else_changes() -> None:
    colour = np.array([220, 60, 40], np.uint8)
    picture = np.broadcast_to(colour, (2, 2, 3)).copy()
    rng = np.random.default_rng(0)
    for reach in (0.1, 0.5):
        results = [augment(picture, rng, 2, still(hue=reach))[0, 0] for _ in range(600)]
        turns = [(hue_of(one) - hue_of(colour) + 0.5) % 1 - 0.5 for one in results]
        assert max(map(abs, turns)) < reach + 0.01
        # Uniform: the mean is 0 and the standard deviation reach / sqrt(3).
        assert abs(np.mean(turns)) < 0.08 * reach
        assert abs(np.std(turns) - reach / np.sqrt(3)) < 0.05 * reach
        assert all(abs(int(one.max()) - 220) <= 1 for one in results)
        assert all(abs(int(one.min()) - 40) <= 2 for one in results)


def test_grey_has_no_hue_to_turn() -> None:
    grey = np.full((2, 2, 3), 130, np.uint8)
    result = augment(grey, np.random.default_rng(0), 2, still(hue=0.5))
    np.testing.assert_array_equal(result, grey)


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
        {"jitter": 1.1},
        {"grey": -0.2},
        {"blur": 2.0},
        {"solarise": 1.5},
        {"hue": 0.6},
        {"hue": -0.1},
    ],
)
def test_settings_that_cannot_work_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"augment.{next(iter(bad))}"):
        AugmentConfig(**bad)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_corner_is_where_the_crop_lay_in_the_resized_picture(
    image: np.ndarray, flip: float
) -> None:
    config = AugmentConfig(scale=(0.2, 0.5), flip=flip)
    for seed in range(8):
        found = augmented(image, np.random.default_rng(seed), 100, config)
        left, top, right, bottom = _crop((90, 70), np.random.default_rng(seed), config)
        size = round(90 * 100 / (right - left)), round(70 * 100 / (bottom - top))
        whole = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        if flip:
            whole = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        top, left = found.corner
        cut = np.asarray(whole.crop((left, top, left + 100, top + 100)), np.float32)
        # Corner and size are rounded to pixels; a crop from elsewhere would differ by tens.
        assert np.abs(cut - found.pixels).mean() < 6
