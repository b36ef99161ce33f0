"""In which letters texts are written, counted over many at once."""

from __future__ import annotations

import collections
from collections.abc import Iterable

import numpy as np

NAMES = ("Hangul", "Latin", "digits", "Hanja", "kana", "other")
_HANGUL, _LATIN, _DIGIT, _HANJA, _KANA, _OTHER, _SPACE = range(7)
_BLOCKS = (
    (0x1100, 0x11FF, _HANGUL), (0x3131, 0x318E, _HANGUL), (0xA960, 0xA97F, _HANGUL),
    (0xAC00, 0xD7FF, _HANGUL), (0x41, 0x5A, _LATIN), (0x61, 0x7A, _LATIN), (0xC0, 0x24F, _LATIN),
    (0x1E00, 0x1EFF, _LATIN), (0xFF21, 0xFF3A, _LATIN), (0xFF41, 0xFF5A, _LATIN),
    (0x30, 0x39, _DIGIT), (0x3400, 0x4DBF, _HANJA), (0x4E00, 0x9FFF, _HANJA),
    (0xF900, 0xFAFF, _HANJA), (0x3041, 0x30FF, _KANA), (0x09, 0x0D, _SPACE), (0x20, 0x20, _SPACE),
)  # fmt: skip


def _kinds() -> np.ndarray:
    kinds = np.full(0x10000, _OTHER, np.uint8)
    for first, last, kind in _BLOCKS:
        kinds[first : last + 1] = kind
    return kinds


_KINDS = _kinds()


def count(texts: Iterable[str], into: collections.Counter[str]) -> None:
    """Add to ``into`` how many characters of each of ``NAMES`` the texts have; spaces count not."""
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    kinds = _KINDS[np.minimum(np.frombuffer(joined, np.uint32), 0xFFFF)]
    counts = np.bincount(kinds, minlength=len(NAMES) + 1)
    into.update({name: int(counts[kind]) for kind, name in enumerate(NAMES) if counts[kind]})
