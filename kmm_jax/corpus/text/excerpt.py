"""A text as people may be shown it: short, what was found marked, personal data taken out."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from kmm_jax.corpus.text.clean import clean
from kmm_jax.corpus.text.rules import PERSONAL, Span, TextRules
from kmm_jax.text.normalize import normalize

_LONGEST = 160
_BEFORE = 40
# A text may be megabytes long: this much is looked at around what is shown, and nothing is shown
# of the last part of it, where a number may have been cut in two.
_AROUND, _EDGE = 2000, 200
_GAP = re.compile(r"\s+")


class Piece(NamedTuple):
    """A part of a text; ``reason`` is what was found there, and with personal data text is ''."""

    text: str
    reason: str | None


def excerpt(text: str, rules: TextRules, *, at: int = 0, reason: str | None = None) -> list[Piece]:
    """A part of ``text`` in pieces, at most some 160 characters.

    Personal data is taken out whatever the rules say of it, and so is what is invisible.

    Args:
        rules: by which it was judged.
        at: about where to look; matters in long texts only.
        reason: the part with this in it is shown, or else the beginning.
    """
    first = max(0, at - _AROUND)
    cut = text[first : at + 2 * _AROUND]
    marks = _painted(cut, clean(cut, _showing(rules)).spans)
    place = next((place for place, mark in enumerate(marks) if mark == reason), 0) if reason else 0
    start = max(0, place - _BEFORE)
    end = len(cut) if first + len(cut) == len(text) else len(cut) - _EDGE
    end = min(end, start + _LONGEST)
    pieces = []
    for mark, of_one in itertools.groupby(range(start, end), key=marks.__getitem__):
        places = list(of_one)
        shown = "" if mark in PERSONAL else _visible(cut[places[0] : places[-1] + 1])
        if shown or mark in PERSONAL:
            pieces.append(Piece(shown, mark))
    if first + start > 0:
        pieces.insert(0, Piece("… ", None))
    if first + end < len(text):
        pieces.append(Piece(" …", None))
    return _without_personal(pieces)


def plain(text: str) -> str:
    """A text of unknown origin, such as a decoder's message: as :func:`excerpt`, without marks."""
    return "".join("***" if piece.reason in PERSONAL else piece.text
                   for piece in excerpt(text, TextRules()))  # fmt: skip


def _showing(rules: TextRules) -> TextRules:
    """The rules with all personal data looked for, whether or not the corpus does."""
    changed: dict[str, Any] = dict.fromkeys(PERSONAL, "mask") | {"symbols": "off", "empty": "off"}
    return dataclasses.replace(rules, **changed)


def _painted(text: str, spans: Sequence[Span]) -> list[str | None]:
    """For each character what was found there; personal data covers all else."""
    marks: list[str | None] = [None] * len(text)
    for start, end, reason in sorted(spans, key=lambda span: span[2] in PERSONAL):
        marks[start:end] = [reason] * (end - start)
    return marks


def _visible(text: str) -> str:
    """Without control, zero-width and direction characters; spaces at the ends stay."""
    inner = normalize(text)
    if not inner:
        return " " if _GAP.search(text) else ""
    return f"{' ' * text[0].isspace()}{inner}{' ' * text[-1].isspace()}"


def _without_personal(pieces: list[Piece]) -> list[Piece]:
    """A second look at what would be shown; what it finds is masked, and the marks are lost."""
    joined = " ■ ".join("" if piece.reason in PERSONAL else piece.text for piece in pieces)
    found = clean(joined, _showing(_ONLY_PERSONAL))
    return pieces if not found.spans else [Piece(found.text, None)]


_ONLY_PERSONAL = TextRules(
    profanity="off", adult="off", language="off", noise_topic="off", shorten=False
)
