"""Images that callers send: what is taken, how large, and what is said of the rest."""

from __future__ import annotations

import base64
import binascii

from PIL import Image

from kmm_jax.data.images import open_rgb
from kmm_jax.errors import DataError
from kmm_jax.serving.problems import ProblemError

# How the files begin. Pillow reads many more, some with the help of other programs.
_KINDS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
}
_LEAST_SIDE = 640  # more than any model here takes


def decoded(text: str, *, most: int) -> bytes:
    """The bytes of an image in base64, with or without ``data:...;base64,`` before it.

    Raises:
        ProblemError: it is none, or more than ``most`` bytes.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    # Tools break lines; more of these than of anything else is no image.
    if len(text) > 2 * most:
        raise too_large(most)
    text = "".join(text.split())
    if len(text) > (most + 2) // 3 * 4:
        raise too_large(most)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(422, "invalid_image", f"image is no base64: {error}") from error


def too_large(most: int) -> ProblemError:
    """What is said of an image above the limit."""
    return ProblemError(413, "too_large", f"an image has at most {most:,} bytes; make it smaller")


def opened(data: bytes, *, most: int, pixels: int) -> Image.Image:
    """The picture in the bytes, RGB, its shorter side at most some hundred pixels.

    Raises:
        ProblemError: too many bytes or pixels, of another kind, or damaged.
    """
    if len(data) > most:
        raise too_large(most)
    kind = _kind(data)
    if kind is None:
        raise ProblemError(
            415,
            "unsupported_image",
            f"an image is {', '.join(_KINDS)}, WebP or AVIF; these {len(data):,} bytes are none",
        )
    try:
        # Of a JPEG no more is decoded than is needed.
        most_pixels = pixels if kind == "JPEG" else pixels // 4
        picture = open_rgb(data, _LEAST_SIDE, max_pixels=most_pixels)
    except DataError as error:
        raise ProblemError(422, "invalid_image", str(error)) from error
    # What waits for the model holds no more memory than it needs.
    longer, shorter = max(picture.size), min(picture.size)
    if shorter > _LEAST_SIDE:
        side = -(-longer * _LEAST_SIDE // shorter)
        picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    return picture


def _kind(data: bytes) -> str | None:
    for name, beginnings in _KINDS.items():
        if data.startswith(beginnings):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return "AVIF" if data[4:12] in (b"ftypavif", b"ftypavis") else None
