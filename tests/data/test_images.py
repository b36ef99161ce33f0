from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from kmm_jax.data.images import decode
from kmm_jax.errors import DataError

from .conftest import jpeg


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


@pytest.fixture
def photo() -> Image.Image:
    return Image.open(io.BytesIO(jpeg(3, (640, 480))))


@pytest.mark.parametrize(
    ("min_side", "expected"),
    [(480, (480, 640)), (241, (480, 640)), (240, (240, 320)), (100, (120, 160)), (10, (60, 80))],
)
def test_a_jpeg_is_decoded_no_larger_than_needed(
    photo: Image.Image, min_side: int, expected: tuple[int, int]
) -> None:
    image = decode(jpeg(3, (640, 480)), min_side)
    assert image.shape == (*expected, 3)
    assert image.dtype == np.uint8
    assert min(image.shape[:2]) >= min_side
    smaller = np.asarray(photo.convert("RGB").resize(expected[::-1], Image.Resampling.BOX))
    assert np.abs(smaller.astype(int) - image).mean() < 3


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (17, 33), (321, 243)])
def test_the_shorter_side_never_falls_below_the_need(size: tuple[int, int]) -> None:
    for min_side in (1, 2, 3, 16, 61, 121):
        image = decode(jpeg(1, size), min_side)
        assert min(image.shape[:2]) >= min(min_side, *size)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_stands_upright_whatever_exif_says(orientation: int) -> None:
    source = Image.fromarray(np.kron(np.arange(24).reshape(4, 6) * 10, np.ones((8, 8)))).convert(
        "RGB"
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(source, "JPEG", quality=95, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode(data, 1000), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_cost_the_image() -> None:
    data = encoded(Image.new("RGB", (16, 16), "red"), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode(data, 16).shape == (16, 16, 3)


def test_cmyk_looks_like_its_rgb() -> None:
    red = Image.new("RGB", (32, 32), (200, 30, 40))
    for image in (decode(encoded(red.convert("CMYK"), "JPEG", quality=95), 32),):
        np.testing.assert_allclose(image[16, 16], [200, 30, 40], atol=6)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    for format in ("PNG", "TIFF"):
        image = decode(encoded(Image.fromarray(ramp), format), 64)
        np.testing.assert_allclose(image[..., 0], ramp / 257, atol=1)
        np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_dark_sixteen_bit_images_stay_dark() -> None:
    dark = np.full((8, 8), 200, np.uint16)
    assert decode(encoded(Image.fromarray(dark), "PNG"), 8).max() <= 1


def test_float_images_are_scaled() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    image = decode(encoded(Image.fromarray(ramp), "TIFF"), 8)
    np.testing.assert_allclose(image[..., 1], ramp * 255, atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L", "1"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 4, 8))
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.paste(0, (0, 0, 4, 8))
        image.putpalette([0, 0, 0, 9, 9, 9])
        data = encoded(image, "PNG", transparency=1)
    elif mode in ("RGB", "L", "1"):
        image = Image.new(mode, (8, 8), "white")
        image.paste("black", (0, 0, 4, 8))
        data = encoded(image, "PNG")
    elif mode == "PA":
        data = encoded(clear.quantize(), "PNG")
    else:
        data = encoded(clear.convert(mode), "PNG")
    image_HW3 = decode(data, 8)
    assert image_HW3.shape == (8, 8, 3)
    assert image_HW3[:, :4].max() == 0 and image_HW3[:, 4:].min() == 255


def test_palette_colours_survive() -> None:
    image = Image.new("RGB", (8, 8), (12, 200, 99)).quantize(4)
    for format in ("GIF", "PNG"):
        np.testing.assert_array_equal(decode(encoded(image, format), 8)[0, 0], [12, 200, 99])


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode(data, 16)[8, 8], [255, 0, 0])


def huge_png(width: int, height: int) -> bytes:
    """A valid header of a huge image and nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_on_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="decompression bomb"):
        decode(huge_png(*size), 224)


def test_the_pixel_limit_is_the_callers() -> None:
    data = jpeg(1, (200, 100))
    assert decode(data, 100, max_pixels=20_000).shape == (100, 200, 3)
    with pytest.raises(DataError, match=r"200 x 100 pixels.*19,999"):
        decode(data, 100, max_pixels=19_999)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_cut_image_is_an_error_and_never_a_grey_half(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    data = encoded(noise, format)
    for share in (0.0, 0.01, 0.3, 0.6, 0.9):
        with pytest.raises(DataError):
            decode(data[: int(len(data) * share)], 32)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_raises_nothing_but_data_errors() -> None:
    rng = np.random.default_rng(0)
    wave = jpeg(2, (64, 48))
    originals = [wave] + [
        encoded(Image.open(io.BytesIO(wave)), format) for format in ("PNG", "GIF", "WEBP", "TIFF")
    ]
    for data in originals:
        for _ in range(60):
            damaged = np.frombuffer(data, np.uint8).copy()
            damaged[rng.integers(0, len(data), 6)] = rng.integers(0, 255, 6)
            with contextlib.suppress(DataError):
                assert decode(damaged.tobytes(), 16).ndim == 3


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"<html>404</html>", bytes(5000)])
def test_other_bytes_are_no_image(data: bytes) -> None:
    with pytest.raises(DataError):
        decode(data, 16)


def test_real_photos_decode(shared_data: Path) -> None:
    from kmm_jax.data.sources import open_source

    tar = shared_data / "photos" / "flickr8k_subset.tar"
    source = open_source(f"folder+tsv:{tar}?caption=caption_en_0")
    for number in range(0, len(source), 100):
        data = source.read(number).image
        image = decode(data, 10_000)
        np.testing.assert_array_equal(image, Image.open(io.BytesIO(data)).convert("RGB"))
