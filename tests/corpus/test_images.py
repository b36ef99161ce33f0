"""Facts of pictures, and bytes that are none."""

import io

import numpy as np
import pytest
from PIL import Image

from kmm_jax.corpus.config import ImageRules
from kmm_jax.corpus.images import alike, image_facts, looks

RULES = ImageRules()


def photo(width=320, height=240, *, seed=0, white=0.0, kind="JPEG", **options):
    """Smooth colours, so that compression and scaling change little; white from the top down."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 230, (6, 8, 3), dtype=np.uint8))
    picture = small.resize((width, height), Image.Resampling.BICUBIC)
    picture.paste("white", (0, 0, width, round(height * white)))
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def distance(first, second):
    return (first.perceptual ^ second.perceptual).bit_count()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (photo(), None),
        (photo(200, 600), None),
        (photo(199, 400), "small"),
        (photo(200, 601), "aspect"),
        (photo(white=0.95), "white"),
        (photo(white=0.85), None),
        (photo(kind="PNG"), None),
        (photo(kind="WEBP"), None),
        (b"", "decode_error"),
        (b"\xff\xd8\xff no picture", "decode_error"),
        ("가짜 그림".encode(), "decode_error"),
        (photo()[:-2000], "decode_error"),
        (photo(kind="PNG")[:-2000], "decode_error"),
    ],
)
def test_the_slides_rules_and_broken_bytes(data, reason):
    found = image_facts(data, RULES)
    assert found.reason == reason, found
    assert (found.note is not None) == (reason == "decode_error")


def test_a_bomb_is_refused_by_its_header():
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    found = image_facts(bomb.getvalue(), RULES)
    assert found.reason == "decode_error" and "pixels" in (found.note or "")


@pytest.mark.parametrize("white", [0.0, 0.25, 0.7])
def test_the_white_share_is_that_of_the_whole_picture(white):
    large = image_facts(photo(1600, 1200, white=white, quality=95), RULES)
    assert large.white == pytest.approx(white, abs=0.005)
    assert (large.width, large.height) == (1600, 1200)


def test_copies_in_another_size_and_compression_are_near_and_others_far():
    original = image_facts(photo(640, 480, quality=95), RULES)
    for copy in (photo(640, 480, quality=40), photo(320, 240, quality=85), photo(kind="PNG")):
        found = image_facts(copy, RULES)
        assert found.image_hash != original.image_hash
        assert distance(found, original) <= 3
        assert alike(found.look, original.look, shade=10, colour=3)
    others = [image_facts(photo(seed=seed), RULES) for seed in range(1, 30)]
    assert min(distance(original, other) for other in others) > 10


def test_brightness_leaves_the_perceptual_hash_alone():
    pixels = np.asarray(Image.open(io.BytesIO(photo())))
    brighter = np.clip(pixels.astype(int) + 12, 0, 255).astype(np.uint8)
    (one, look), (other, brighter_look) = looks(pixels), looks(brighter)
    assert (one ^ other).bit_count() <= 3
    assert alike(look, brighter_look, shade=10, colour=3)


def test_the_same_thing_in_another_colour_or_with_another_pattern_is_another():
    def shirt(colour, stripes=0):
        pixels = np.full((240, 240, 3), 255, np.uint8)
        pixels[60:180, 60:180] = colour
        for row in range(stripes):
            pixels[66 + row * 14 : 70 + row * 14, 60:180] = 255
        return looks(pixels)

    (blue, look), (red, red_look) = shirt((60, 90, 160)), shirt((150, 70, 60))
    assert (blue ^ red).bit_count() <= 3  # the same shape
    assert not alike(look, red_look, shade=10, colour=3)
    _, striped = shirt((60, 90, 160), stripes=8)
    assert not alike(look, striped, shade=10, colour=255)


def test_the_same_bytes_have_the_same_hash_and_hexadecimal_names():
    assert image_facts(photo(), RULES) == image_facts(photo(), RULES)
    assert len(bytes.fromhex(image_facts(photo(), RULES).image_hash)) == 16
