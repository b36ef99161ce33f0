"""A picture's facts from its bytes: size, white pixels, hashes; or why it is no use (slide 2.2)."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from kmm_jax.corpus.config import ImageRules
from kmm_jax.data.images import MAX_PIXELS, open_rgb
from kmm_jax.errors import DataError

# White pixels are counted where the shorter side is decoded to at least this many pixels: the share
# moves by less than a thousandth, and decoding a photo takes a fraction of the time.
_COUNTED_SIDE = 256
_HASH_SIDE = 32  # the picture's side for the perceptual hash; 8 x 8 of its frequencies are kept
_JPEG = b"\xff\xd8\xff"


class Facts(NamedTuple):
    """What is known of a picture.

    Attributes:
        image_hash: 16 bytes of BLAKE2b of the file, in hexadecimal.
        width, height: pixels; 0 where the header could not be read.
        white: share of white pixels, -1 where nothing was decoded.
        perceptual: 64 bits that similar pictures share, 0 where nothing was decoded.
        reason: why it is rejected (``small``, ``aspect``, ``white``, ``decode_error``), or None.
        note: of a picture that cannot be decoded, what the decoder said.
    """

    image_hash: str
    width: int
    height: int
    white: float
    perceptual: int
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
            return Facts(image_hash, width, height, -1.0, 0, reason)
        pixels = _decode(data)
    except MemoryError:
        raise
    except Exception as error:  # decoders of broken bytes raise many kinds
        note = " ".join(str(error).split())[:200] or type(error).__name__
        return Facts(image_hash, 0, 0, -1.0, 0, "decode_error", note)
    white = _white(pixels, rules.white)
    reason = "white" if white >= rules.most_white else None
    return Facts(image_hash, width, height, white, perceptual_hash(pixels), reason)


def perceptual_hash(pixels_HWC: np.ndarray) -> int:
    """64 bits: which of the 8 x 8 lowest frequencies of the grey picture lie above their median.

    Pictures that differ in size, in compression or a little in brightness differ in a few bits.

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
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


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
