"""What to look for in a picture: the phrases whose answers are the boxes of its record."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from kmm_jax.data.boxes import Box, in_centre, inside, named_boxes
from kmm_jax.errors import DataError
from kmm_jax.evaluation.heat import cells_within

Phrase = Literal["full", "type"]
"""``"full"``: colour, pattern and type (빨간색 체크무늬 셔츠); ``"type"``: type alone (셔츠)."""

# A box of which the centre square keeps less is no longer the thing that its phrase names.
_LEAST_INSIDE = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A phrase, and the box to find by it, in shares of the side of the model's square picture.

    Attributes:
        several: the picture shows more than this one thing.
        blind: the share of its things whose middle lies in this box, this thing's included: how
            often one is right who sees where things are, and not what they are.
    """

    phrase: str
    box: Box
    several: bool
    blind: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Targets:
    """A picture's targets, and how many boxes became none: ``ambiguous``, or ``outside``."""

    found: tuple[Target, ...] = ()
    ambiguous: int = 0
    outside: int = 0


def targets_of(
    record: Mapping[str, Any], picture: tuple[int, int], *, phrase: Phrase, image_size: int
) -> Targets:
    """What to look for in the central square of a record's picture.

    A box with a ``phrase`` of its own is called by it; others by their ``type``, ``color`` and
    ``pattern``, in the shop's words. Boxes that share a phrase, or a type whatever their colours,
    are ambiguous. Left out as outside are boxes of which the square keeps less than half, or not
    one pixel.

    Args:
        picture: its width and height, pixels.
        image_size: side of the square that the model sees, pixels.

    Raises:
        DataError: a box is none, or has a label that the shop has no word for.
    """
    boxes = named_boxes(record)
    names = [box.labels.get("phrase") or box.labels.get("type") for box in boxes]
    places = [in_centre(box.box, picture) for box in boxes]
    counts = collections.Counter(names)
    found: list[Target] = []
    ambiguous = outside = 0
    for box, name, place in zip(boxes, names, places, strict=True):
        if name is None:
            continue
        part, share = inside(place)
        if counts[name] > 1:
            ambiguous += 1
        elif share < _LEAST_INSIDE or not cells_within(np.asarray([part]), image_size).any():
            outside += 1
        else:
            found.append(
                Target(
                    phrase=_words(box.labels, phrase, str(record.get("image_hash"))),
                    box=part,
                    several=len(boxes) > 1,
                    blind=sum(_middle_within(other, place) for other in places) / len(places),
                )
            )
    return Targets(found=tuple(found), ambiguous=ambiguous, outside=outside)


def _middle_within(other: Box, box: Box) -> bool:
    x, y = (other[0] + other[2]) / 2, (other[1] + other[3]) / 2
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def _words(labels: Mapping[str, str], phrase: Phrase, key: str) -> str:
    from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY

    if "phrase" in labels:
        return labels["phrase"]
    vocabulary: dict[str, Mapping[str, Any]] = {"type": KINDS}
    if phrase == "full":
        vocabulary = {"color": COLOURS_BY_KEY, "pattern": PATTERNS_BY_KEY, **vocabulary}
    names: list[str] = []
    for label, words in vocabulary.items():
        value = labels.get(label)
        # Nobody says of plain cloth that it is plain.
        if value is None or (label, value) == ("pattern", "solid"):
            continue
        if value not in words:
            raise DataError(
                f"{key}: a box has the {label} {value!r}, for which the built-in shop has no word; "
                'give boxes of other data a "phrase", the words to look for'
            )
        names.append(words[value].ko)
    return " ".join(names)
