"""Normalising a text while remembering where each character came from."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kmm_jax.text.normalize import INVISIBLE, SPACES

# Pictographs, and of the older symbols those that are drawn in colour. ★ ♥ ☎ and their like stay:
# titles use them as punctuation.
_EMOJI = (
    "\U0001f000-\U0001fbff\u20e3\u231a\u231b\u23e9-\u23f3\u23f8-\u23fa\u25fd\u25fe\u2600-\u2604"
    "\u2614\u2615\u2639\u263a\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab\u26bd\u26be\u26c4\u26c5"
    "\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2702\u2705\u2708-\u270d\u2728\u274c\u274e"
    "\u2753-\u2755\u2757\u2763\u2764\u2795-\u2797\u27a1\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55"
)


def _class(ranges: Sequence[tuple[int, int]]) -> str:
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)


_REMOVED = re.compile(f"[{_class([*INVISIBLE, (0xD800, 0xDFFF)])}]")
_GAP = re.compile(f"[{_class(SPACES)}{_EMOJI}]+")
_OTHER_GAP = re.compile(f"(?! )[{_class(SPACES)}{_EMOJI}]|  |^ | $")
# Texts of these characters alone are in normal form; most titles are.
PLAIN = re.compile(r"(?:[!-~가-힣ㄱ-ㅣ]+ )*[!-~가-힣ㄱ-ㅣ]+")

# Digits are never shortened: 10000 is a number. Latin letters only where no word has them (AAAA is
# a battery), syllables not before the fourth (하하하 is a laugh, 바바바 a song).
_CHARACTERS = r"([ㄱ-ㅣ])\1{2,}|([^\w\s.])\2{2,}|(?<!\.)\.{4,}|([가-힣])\3{3,}|([A-Za-z])\4{4,}"
_RUNS = re.compile(_CHARACTERS + r"|([^\d\s][^\d\n]{0,6}?[^\d\s])(?: ?\5){2,}")
_CHARACTER_RUNS = re.compile(_CHARACTERS)
_UNIT = 5
_MOST_PASSES = 8


@dataclass(frozen=True, slots=True)
class Mapped:
    """A text and, for each of its characters, the input's code points [start, end) it stands for.

    ``starts`` and ``ends`` are None where the text is the input.
    """

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """[start, end) of this text, not empty, in the input's code points."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


class _Pieces:
    """A text under construction from slices of another."""

    def __init__(self, source: Mapped) -> None:
        self._source = source
        size = len(source.text)
        self._starts = range(size) if source.starts is None else source.starts
        self._ends = range(1, size + 1) if source.ends is None else source.ends
        self._text: list[str] = []
        self._new_starts: list[int] = []
        self._new_ends: list[int] = []

    def copy(self, start: int, end: int) -> None:
        self._text.append(self._source.text[start:end])
        self._new_starts.extend(self._starts[start:end])
        self._new_ends.extend(self._ends[start:end])

    def put(self, text: str, start: int, end: int) -> None:
        """``text`` in the place of the slice [start, end)."""
        self._text.append(text)
        self._new_starts.extend([self._starts[start]] * len(text))
        self._new_ends.extend([self._ends[end - 1]] * len(text))

    def done(self) -> Mapped:
        return Mapped("".join(self._text), self._new_starts, self._new_ends)


def normalized(text: str, *, shorten: bool = True) -> Mapped:
    """``text`` as :func:`kmm_jax.text.normalize.normalize` writes it, without emoji and repetition.

    An emoji is a gap between words. Of a repetition one unit stays (대박대박대박 -> 대박), of a
    repeated character two (ㅋㅋㅋㅋ -> ㅋㅋ); digits are left alone.
    """
    mapped = Mapped(text)
    if not PLAIN.fullmatch(text):
        mapped = _gaps(_composed(_without(mapped)))
    return _shortened(mapped) if shorten else mapped


def _without(mapped: Mapped) -> Mapped:
    if not _REMOVED.search(mapped.text):
        return mapped
    pieces, at = _Pieces(mapped), 0
    for found in _REMOVED.finditer(mapped.text):
        pieces.copy(at, found.start())
        at = found.end()
    pieces.copy(at, len(mapped.text))
    return pieces.done()


def _joins(character: str) -> bool:
    """Whether composition may reach from ``character`` to the one before it."""
    return "ᅡ" <= character <= "ᇿ" or unicodedata.category(character)[0] == "M"


def _composed(mapped: Mapped) -> Mapped:
    text = mapped.text
    if unicodedata.is_normalized("NFC", text):
        return mapped
    pieces, at = _Pieces(mapped), 0
    while at < len(text):
        end = at + 1
        while end < len(text) and _joins(text[end]):
            end += 1
        piece = unicodedata.normalize("NFC", text[at:end])
        if piece == text[at:end]:
            pieces.copy(at, end)
        else:
            pieces.put(piece, at, end)
        at = end
    return pieces.done()


def _gaps(mapped: Mapped) -> Mapped:
    text = mapped.text
    if not _OTHER_GAP.search(text):
        return mapped
    gaps = [found.span() for found in _GAP.finditer(text)]
    pieces, at = _Pieces(mapped), 0
    for start, end in gaps:
        pieces.copy(at, start)
        if start > 0 and end < len(text):
            pieces.put(" ", start, end)
        at = end
    pieces.copy(at, len(text))
    return pieces.done()


def _shortened(mapped: Mapped) -> Mapped:
    # What is left of one repetition can be part of another; each pass makes the text shorter.
    for _ in range(_MOST_PASSES):
        # A unit that stands three times has a pair of characters that does, a run one that comes
        # twice; counting pairs is cheaper than trying.
        pairs = list(pairwise(mapped.text))
        if len(set(pairs)) == len(pairs):
            break
        runs = _RUNS if max(Counter(pairs).values()) > 2 else _CHARACTER_RUNS
        found = list(runs.finditer(mapped.text))
        if not found:
            break
        pieces, at = _Pieces(mapped), 0
        for run in found:
            pieces.copy(at, run.start())
            if run.lastindex == _UNIT:
                pieces.put(run[_UNIT], run.start(), run.end())
            else:
                pieces.put("..." if run[0][0] == "." else run[0][:2], run.start(), run.end())
            at = run.end()
        pieces.copy(at, len(mapped.text))
        mapped = pieces.done()
    return mapped
