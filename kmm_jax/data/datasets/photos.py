"""What is the same for every set of photos: the hash, the split, the order, the measured fields."""

from __future__ import annotations

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from kmm_jax.errors import DataError

Split = Literal["train", "test"]

_HASH_LENGTH = 20
_TEST_SHARE = 10  # one image in ten
_WHITE = 250  # darker than this in any channel is not white
_JPEG_START = b"\xff\xd8\xff"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One image of a set: its name in the set, how to read it, and what is known about it."""

    name: str
    read: Callable[[], bytes]
    facts: Any
    part: Split | None = None
    """The split as published; None where the set has one part only."""


def photo_rows(
    photos: Iterable[Photo], split: Split, source: str, texts: Callable[[Photo, str, float], dict]
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The rows of ``split`` among ``photos``: (record, JPEG bytes).

    ``texts(photo, image_hash, white_ratio)`` gives the fields that hold words and labels. Images
    that cannot be read and repeated ones are left out, counted and logged.

    Raises:
        DataError: not one image could be read.
    """
    seen: set[str] = set()
    left_out: Counter[str] = Counter()
    example = ""
    for photo in sorted(photos, key=lambda one: _order(one.name)):
        try:
            image = as_jpeg(photo.read())
            image_hash = hash_of(image)
            if (photo.part or split_of(image_hash)) != split:
                seen.add(image_hash)
                continue
            size, white_ratio = measure(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            left_out["unreadable"] += 1
            example = example or f"{photo.name}: {error}"
            continue
        if image_hash in seen:
            left_out["repeated"] += 1
            continue
        seen.add(image_hash)
        record = {
            "image_hash": image_hash,
            "image_url": f"{source}://{photo.name}",
            "image_size": list(size),
            # No scorer, watermark detector or text detector has seen these photos.
            "title_kelip_score": None,
            "watermark_score": None,
            "ocr_num_box": None,
            "ocr_ratio_box": None,
            "image_white_pixel_ratio": white_ratio,
            "source": source,
            **texts(photo, image_hash, white_ratio),
        }
        record["query_kelip_score"] = [None] * len(record["query"])
        yield record, image
    if left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        _LOG.warning("%s %s: images left out: %s %s", source, split, counts, example)
    if not seen:
        raise DataError(f"{source}: not one image could be read; first: {example or 'no image'}")


def hash_of(image: bytes) -> str:
    """The ``image_hash`` of an encoded image: the first 20 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(image).hexdigest()[:_HASH_LENGTH]


def split_of(image_hash: str) -> Split:
    """``test`` for one hash in ten, whatever else is in the set."""
    return "test" if int(image_hash, 16) % _TEST_SHARE == 0 else "train"


def measure(image: bytes) -> tuple[tuple[int, int], float]:
    """((width, height) in pixels, share of pixels of at least 250 in all three channels).

    Raises:
        OSError: no image, or a broken one.
    """
    with Image.open(io.BytesIO(image)) as opened:
        pixels_HW3 = np.asarray(opened.convert("RGB"))
    white_HW = (pixels_HW3 >= _WHITE).all(axis=-1)
    return (pixels_HW3.shape[1], pixels_HW3.shape[0]), round(float(white_HW.mean()), 6)


def as_jpeg(image: bytes) -> bytes:
    """``image`` as JPEG: unchanged if it is one, else encoded at quality 95 without subsampling.

    Raises:
        OSError: no image, or a broken one.
    """
    if image.startswith(_JPEG_START):
        return image
    encoded = io.BytesIO()
    with Image.open(io.BytesIO(image)) as opened:
        opened.convert("RGB").save(encoded, "JPEG", quality=95, subsampling=0)
    return encoded.getvalue()


def _order(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8")).digest()
