"""One text -> its clean form, a decision, reasons, spans; the same for many at once."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kmm_jax.corpus.text import address, links, personal, scripts
from kmm_jax.corpus.text.context import fold
from kmm_jax.corpus.text.mapping import normalized
from kmm_jax.corpus.text.personal import Finder
from kmm_jax.corpus.text.rules import PERSONAL, REASONS, Decision, Span, TextRules
from kmm_jax.corpus.text.words import Words, lists_mark

# The first to claim characters keeps them: an address of the web may hold digits of a phone, a
# phone number beside a carrier is no parcel.
_LINKS: tuple[tuple[str, Finder], ...] = (("email", links.emails), ("url", links.urls))
_NUMBERS: tuple[tuple[str, Finder], ...] = (
    ("resident_number", personal.resident_numbers),
    ("driver_license", personal.driver_licenses),
    ("passport", personal.passports),
    ("card_number", personal.card_numbers),
    ("phone", personal.phones),
    ("tracking_number", personal.tracking_numbers),
)
# Cheap conditions without which no finder of a group can succeed.
_LINK_SIGN = re.compile(r"\w\.[A-Za-z]{2}|@|://|골뱅이|[(\[] ?(?:at|골|앳)", re.IGNORECASE)
_SEVEN_DIGITS = re.compile(r"\d(?:\D{0,6}\d){6}")
_HOUSE_NUMBER = re.compile(r"[로길동리가읍면] ?(?:산 ?|지하 ?)?\d")
_SPOKEN_HEAD = re.compile(r"[0공영oO] ?[1일lI] ?[0공영oO]")
_ORDER = {reason: place for place, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a text.

    ``text`` is normalised, what is masked in it replaced; personal data is replaced in rejected
    texts as well. ``spans`` are [start, end) in the input's code points, with the reason, sorted;
    ``symbols`` and ``empty`` have none, being about the whole text. ``rejected_for`` is the first
    of the reasons that reject, where one does.
    """

    text: str
    decision: Decision
    reasons: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    rejected_for: str | None = None


class Cleaner:
    """``rules`` made ready: the lists read, the automata built (milliseconds, once)."""

    def __init__(self, rules: TextRules | None = None) -> None:
        self.rules = rules = rules or TextRules()
        self.words = Words(rules)
        self._is_on = {reason: getattr(rules, reason) != "off" for reason in REASONS}
        self._rejects = {reason for reason in REASONS if getattr(rules, reason) == "reject"}
        self._links = tuple(pair for pair in _LINKS if self._is_on[pair[0]])
        self._numbers = tuple(pair for pair in _NUMBERS if self._is_on[pair[0]])

    def __call__(self, text: str) -> Cleaned:
        """``text`` judged by every rule."""
        mapped = normalized(text, shorten=self.rules.shorten)
        clean = mapped.text
        found = _merged([*self._personal(clean), *self._worded(clean)])
        reasons = {reason for _, _, reason in found}
        kept, rest = self._masked(clean, found)
        if self._is_on["symbols"]:
            share = scripts.symbol_share(rest, count_latin=self.rules.count_latin)
            if share >= self.rules.symbol_share:
                reasons.add("symbols")
        is_masked = bool(reasons - self._rejects)
        if self._is_on["empty"] and (not clean or (is_masked and not rest.strip())):
            reasons.add("empty")
        decision: Decision = "mask" if reasons else "keep"
        if reasons & self._rejects:
            decision = "reject"
        ordered = tuple(sorted(reasons, key=_ORDER.__getitem__))
        return Cleaned(
            kept,
            decision,
            ordered,
            tuple((*mapped.span(start, end), reason) for start, end, reason in found),
            next((reason for reason in ordered if reason in self._rejects), None),
        )

    def batch(self, texts: Sequence[str]) -> list[Cleaned]:
        """``[self(text) for text in texts]``, several times faster on ordinary texts."""
        from kmm_jax.corpus.text.screen import suspects

        cleaned = [Cleaned(text, "keep") for text in texts]
        for row in suspects(self, texts):
            cleaned[row] = self(texts[row])
        return cleaned

    def _personal(self, text: str) -> list[Span]:
        folded, found = fold(text), list[Span]()
        if self._links and _LINK_SIGN.search(folded):
            _claim(found, folded, self._links)
        if _SEVEN_DIGITS.search(folded):
            _claim(found, folded, self._numbers)
        if self._is_on["phone"] and self.rules.spelled_digits and _SPOKEN_HEAD.search(folded):
            _claim(found, folded, (("phone", personal.spelled_phones),))
        if self._is_on["address"] and _HOUSE_NUMBER.search(folded):
            _claim(found, folded, (("address", address.addresses),))
        return found

    def _worded(self, text: str) -> Iterable[Span]:
        yield from self.words.find(text)
        if self._is_on["language"]:
            for start, end in scripts.foreign(text, hanja=self.rules.hanja):
                yield start, end, "language"

    def _masked(self, text: str, found: Sequence[Span]) -> tuple[str, str]:
        """``text`` with masks in it, and what is left of it beside them."""
        hidden = [span for span in found if span[2] in PERSONAL or span[2] not in self._rejects]
        if not hidden:
            return text, text
        pieces, at = [], 0
        for start, end, _ in hidden:
            if start >= at:
                pieces.append(text[at:start])
            at = max(at, end)
        pieces.append(text[at:])
        return " ".join(self.rules.mask.join(pieces).split(" ")).strip(), "".join(pieces)


def _claim(found: list[Span], text: str, finders: Iterable[tuple[str, Finder]]) -> None:
    for reason, finder in finders:
        for start, end in finder(text):
            if all(end <= low or high <= start for low, high, _ in found):
                found.append((start, end, reason))


def _merged(found: list[Span]) -> list[Span]:
    """Sorted; overlapping spans of one reason become one."""
    merged: list[Span] = []
    last: dict[str, int] = {}
    for start, end, reason in sorted(found):
        place = last.get(reason)
        if place is not None and start < merged[place][1]:
            merged[place] = (merged[place][0], max(end, merged[place][1]), reason)
        else:
            last[reason] = len(merged)
            merged.append((start, end, reason))
    return merged


@functools.lru_cache(maxsize=8)
def _cleaner(rules: TextRules, lists: str) -> Cleaner:
    return Cleaner(rules)


def clean(text: str, rules: TextRules | None = None) -> Cleaned:
    """``text`` judged by ``rules`` (all reasons reject by default).

    The lists are read at the first call with equal rules, and when a file has changed.
    """
    rules = rules or TextRules()
    return _cleaner(rules, lists_mark(rules))(text)


def clean_batch(texts: Sequence[str], rules: TextRules | None = None) -> list[Cleaned]:
    """``[clean(text, rules) for text in texts]``, faster."""
    rules = rules or TextRules()
    return _cleaner(rules, lists_mark(rules)).batch(texts)
