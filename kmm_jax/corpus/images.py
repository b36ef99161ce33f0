"""A picture's facts from its bytes: size, white pixels, hashes; or why it is no use (slide 2.2)."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import numpy as np

from kmm_jax.corpus.config import ImageRules
from kmm_jax.data.images import MAX_PIXELS, open_rgb
from kmm_jax.errors import DataError

# White pixels are counted where the shorter side is decoded to at least this many pixels: the share
# moves by less than a thousandth, and decoding a photo takes a fraction of the time.
_COUNTED_SIDE = 256
_HASH_SIDE = 32  # the picture's side for the perceptual hash; 8 x 8 of its frequencies are kept
_SHADE_SIDE, _COLOUR_SIDE = 8, 4  # of the tiny pictures that a second look compares
_JPEG = b"\xff\xd8\xff"
_ADDRESS = re.compile(r" ?<[\w.]+ object at 0x[0-9a-f]+>")


class Facts(NamedTuple):
    """What is known of a picture.

    Attributes:
        image_hash: 16 bytes of BLAKE2b of the file, in hexadecimal.
        width, height: pixels; 0 where the header could not be read.
        white: share of white pixels, -1 where nothing was decoded.
        perceptual: 64 bits that similar pictures share, 0 where nothing was decoded.
        look: what ``alike`` compares; empty where nothing was decoded.
        reason: why it is rejected (``small``, ``aspect``, ``white``, ``decode_error``), or None.
        note: of a picture that cannot be decoded, what the decoder said.
    """

    image_hash: str
    width: int
    height: int
    white: float
    perceptual: int
    look: bytes
    reason: str | None
    note: str | None = None


def image_facts(data: bytes, rules: ImageRules) -> Facts:
    """The facts of an encoded picture; whatever the bytes are, none is fatal.

    The header is read first: what is too small, too long or a decompression bomb is not decoded.
    """
    image_hash = hashlib.blake2b(data, digest_size=16).hexdigest()
    try:
        width, height = _size(data)
        if width * height > MAX_PIXELS:
            raise DataError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
        if reason := _shape(width, height, rules):
            return Facts(image_hash, width, height, -1.0, 0, b"", reason)
        pixels = _decode(data)
    except MemoryError:
        raise
    except Exception as error:  # decoders of broken bytes raise many kinds
        told = _ADDRESS.sub("", " ".join(str(error).split()))  # which is another one each time
        note = told[:200] or type(error).__name__
        return Facts(image_hash, 0, 0, -1.0, 0, b"", "decode_error", note)
    white = _white(pixels, rules.white)
    reason = "white" if white >= rules.most_white else None
    perceptual, look = looks(pixels)
    return Facts(image_hash, width, height, white, perceptual, look, reason)


def looks(pixels_HWC: np.ndarray) -> tuple[int, bytes]:
    """The perceptual hash, and what a second look compares.

    The hash: which of the 8 x 8 lowest frequencies of the grey picture lie above their median, 64
    bits. Pictures that differ in size, in compression or a little in brightness differ in a few of
    them; so do two shoes on white. The second look: the shades of a picture of 8 x 8 pixels, and
    the two colour differences (YCrCb) of one of 4 x 4, which tell a red shoe from a blue one.

    Args:
        pixels_HWC: uint8 RGB.
    """
    import cv2

    grey = cv2.cvtColor(pixels_HWC, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    # The first is the mean brightness and says nothing of the picture.
    bits = low > np.median(low[1:])
    bits[0] = False
    shades = cv2.resize(small, (_SHADE_SIDE, _SHADE_SIDE), interpolation=cv2.INTER_AREA)
    tiny = cv2.resize(pixels_HWC, (_COLOUR_SIDE, _COLOUR_SIDE), interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(tiny, cv2.COLOR_RGB2YCrCb)[:, :, 1:]
    perceptual = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return perceptual, shades.tobytes() + colours.tobytes()


def alike(one: bytes, other: bytes, *, shade: int, colour: int) -> bool:
    """Whether a second look finds the same: no shade, no colour differs by more (of 255).

    What all shades have in common, the picture's brightness, is left out.
    """
    split = _SHADE_SIDE**2
    differ = np.frombuffer(one, np.uint8).astype(np.float32) - np.frombuffer(other, np.uint8)
    shades, colours = differ[:split], differ[split:]
    return bool(np.abs(shades - shades.mean()).max() <= shade and np.abs(colours).max() <= colour)


def _size(data: bytes) -> tuple[int, int]:
    if data[:3] == _JPEG:
        import simplejpeg

        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        return width, height
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.size


def _shape(width: int, height: int, rules: ImageRules) -> str | None:
    short, long = min(width, height), max(width, height)
    if short < rules.least_side:
        return "small"
    return "aspect" if long > rules.most_aspect * short else None


def _decode(data: bytes) -> np.ndarray:
    if data[:3] == _JPEG:
        import simplejpeg

        try:
            return simplejpeg.decode_jpeg(
                data, colorspace="RGB", min_height=_COUNTED_SIDE, min_width=_COUNTED_SIDE
            )
        except ValueError as error:
            # CMYK and other rare kinds are Pillow's; what is broken is broken there too.
            if "truncated" in str(error).lower() or "premature" in str(error).lower():
                raise
    return np.asarray(open_rgb(data, _COUNTED_SIDE))


def _white(pixels_HWC: np.ndarray, least: int) -> float:
    import cv2

    white = cv2.inRange(pixels_HWC, (least,) * 3, (255,) * 3)
    return cv2.countNonZero(white) / white.size
