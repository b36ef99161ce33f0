"""Encoded bytes -> 8-bit RGB, whatever the file holds; nothing large is decoded by surprise."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, UnidentifiedImageError

from kmm_jax.errors import DataError

MAX_PIXELS = 80_000_000
"""Images with more pixels are refused on their header alone."""

# How the files of `data/latents.py` begin.
_NUMPY = b"\x93NUMPY"
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


def decode(data: bytes, min_side: int, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The image in ``data`` as uint8 (H, W, 3) RGB; see :func:`open_rgb`."""
    return np.array(open_rgb(data, min_side, max_pixels=max_pixels))


def open_rgb(data: bytes, min_side: int, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in ``data`` as an RGB picture, upright by its EXIF orientation.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where its shorter side stays at least
    ``min_side`` pixels. CMYK, 16-bit, greyscale and palette images are converted, transparency is
    laid on white, the first frame of an animation is taken.

    Raises:
        DataError: no image, truncated, corrupt, or more than ``max_pixels`` pixels; the size is
            checked on the header, before any pixel is decoded.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise DataError(f"decompression bomb: {error}") from error
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        if data.startswith(_NUMPY):
            raise DataError(
                "latents and no image; training a generator takes them, named as latents:FOLDER"
            ) from error
        raise DataError(f"not an image of any known format ({len(data):,} bytes)") from error
    except Exception as error:
        raise DataError(
            f"cannot be opened as an image ({len(data):,} bytes): {_line(error)}"
        ) from error
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(
            f"decompression bomb: {width} x {height} pixels, more than the limit of "
            f"{max_pixels:,}; leave the image out or make it smaller"
        )
    try:
        scale = min_side / min(width, height)
        if image.format == "JPEG" and scale <= 0.5:
            image.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
        image.load()
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        image = _rgb(image)
        turn = _TURNS.get(orientation)
        return image if turn is None else image.transpose(turn)
    except MemoryError:
        raise
    except Exception as error:
        # Decoders of broken bytes raise many kinds of exceptions.
        raise DataError(
            f"corrupt or truncated image ({image.format} {width} x {height}, {len(data):,} bytes): "
            f"{_line(error)}"
        ) from error


def upright_size(data: bytes) -> tuple[int, int]:
    """Width and height, from the header alone, of what :func:`open_rgb` would decode whole.

    Raises:
        DataError: no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            sideways = image.getexif().get(_EXIF_ORIENTATION, 1) in _SIDEWAYS
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(
            f"cannot be opened as an image ({len(data):,} bytes): {_line(error)}"
        ) from error
    return (height, width) if sideways else (width, height)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_deep_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits; Pillow's own conversion would clip it to white."""
    grey = np.asarray(image).astype(np.float64)
    top = grey.max(initial=0.0)
    full = 1.0 if image.mode == "F" and top <= 1 else 255.0 if top <= 255 else 65535.0
    if image.mode.startswith("I;16"):
        full = 65535.0
    eight = np.clip(grey * (255.0 / full), 0, 255).round().astype(np.uint8)
    return Image.fromarray(eight).convert("RGB")


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
