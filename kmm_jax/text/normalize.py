"""One spelling for one text: composed Hangul, no invisible characters, single spaces.

The two character classes are written as explicit code points and not as Unicode categories, because
the same classes go into ``tokenizer.json`` and there meet another regular expression engine with
another edition of Unicode.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Controls, soft hyphen, zero-width and direction marks, Hangul fillers of width zero, variation
# selectors, interlinear and musical marks, tags. (Space-like controls stand in the next table.)
INVISIBLE: Sequence[tuple[int, int]] = (
    (0x00, 0x08),
    (0x0E, 0x1B),
    (0x7F, 0x84),
    (0x86, 0x9F),
    (0xAD, 0xAD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)

# Everything that looks like a gap, with the two Hangul fillers that people type as one.
SPACES: Sequence[tuple[int, int]] = (
    (0x09, 0x0D),
    (0x1C, 0x20),
    (0x85, 0x85),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xFFA0, 0xFFA0),
)

# Half of a surrogate pair is no character and cannot be written as UTF-8; JSON lets it in.
_SURROGATES = (0xD800, 0xDFFF)


def _python_class(ranges: Sequence[tuple[int, int]]) -> str:
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)


_REMOVED = re.compile(f"[{_python_class([*INVISIBLE, _SURROGATES])}]")
_SPACE_RUN = re.compile(f"[{_python_class(SPACES)}]+")


def normalize(text: str) -> str:
    """The canonical form of ``text``: what is tokenized, compared and shown.

    Decomposed Hangul (as macOS names files) becomes composed (NFC); zero-width, control and other
    invisible characters and halves of surrogate pairs disappear; every run of white space becomes
    one space and none is left at the ends. Idempotent, and equal for canonically equal texts.
    Compatibility forms (full-width Latin, compatibility jamo) keep their shape.
    """
    # Removal comes first: an invisible character between two jamo would keep them from composing.
    composed = unicodedata.normalize("NFC", _REMOVED.sub("", text))
    return _SPACE_RUN.sub(" ", composed).strip(" ")
