"""Word lists, matched in one pass (Aho-Corasick) with Korean word boundaries and usual disguises.

A list is a UTF-8 file with an entry a line; what follows ``#`` is a comment. An entry is written

    씨발      anywhere, inside longer words too
    |염병     at the start of a word only (전염병 is none)
    |자위|    a whole word: nothing but a particle after it
    ~씨발     anywhere, and with digits, signs or spaces put between its letters (시1발, 시 발)

and both marks can be combined. Entries of ``lists/allow.txt`` and of ``allow_lists`` are words of
every day: a hit inside one does not count.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from kmm_jax.corpus.text.rules import WORD_LISTS, TextRules
from kmm_jax.errors import DataError, require

_FOLDER = Path(__file__).with_name("lists")
_ALLOW = "allow"
_LETTER = re.compile(r"[가-힣ㄱ-ㅣA-Za-z]")
_NOT_KOREAN = re.compile(r"[^가-힣ㄱ-ㅣ]+")
_PARTICLE = re.compile(
    r"(?:(?:들|님)?(?:이|가|은|는|을|를|의|에|에서|에게|도|만|과|와|로|으로|랑|이랑|나|이나|처럼|같이|보다|까지|부터|"
    r"한테|하고|아|야|이다|임|인|이네|네|다|요|이야|이지|지|냐|이냐|들))?(?![가-힣A-Za-z])"
)
_LONE_JAMO = re.compile(r"([ㄱ-ㅎ])([ㅏ-ㅣ])(?:([ㄱ-ㅎ])(?![ㅏ-ㅣ]))?")
_LEADS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_TAILS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_WIDEST_GAP = 3


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a list; ``reason`` is ``allow`` for words that never count."""

    word: str
    reason: str
    starts: bool = False
    ends: bool = False
    disguised: bool = False


def read_list(path: Path, reason: str) -> Iterator[Entry]:
    """The entries of the file ``path``.

    Raises:
        DataError: it cannot be read, is not UTF-8, or a line holds marks and no word.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"the word list {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        word = entry.lstrip("~|").rstrip("|").lower()
        if not word or "|" in word:
            raise DataError(
                f"{path}, line {number}: {entry!r} is no entry; write a word, |word| or ~word"
            )
        marks = entry[: len(entry) - len(entry.lstrip("~|"))]
        yield Entry(
            word=word,
            reason=reason,
            starts="|" in marks,
            ends=entry.endswith("|"),
            disguised="~" in marks,
        )


def lists_mark(rules: TextRules) -> str:
    """Changes when a list that ``rules`` look into does: the shipped ones or the user's."""
    found = hashlib.blake2b(_shipped(), digest_size=16)
    for reason in (*WORD_LISTS, _ALLOW):
        for path in getattr(rules, f"{reason}_lists"):
            try:
                of_file = path.stat()
            except OSError:
                continue  # reading it says what is wrong
            found.update(reason.encode() + _content(path, of_file.st_size, of_file.st_mtime_ns))
    return found.hexdigest()


@functools.cache
def _shipped() -> bytes:
    return b"".join(_content(path, 0, 0) for path in sorted(_FOLDER.glob("*.txt")))


@functools.lru_cache(maxsize=64)
def _content(path: Path, size: int, changed_ns: int) -> bytes:
    """A digest of a file that has not changed since, as size and time tell."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()


class Words:
    """The automata of all lists that ``rules`` look for; ``found`` are the words that count."""

    def __init__(self, rules: TextRules) -> None:
        entries = list(read_list(_FOLDER / "allow.txt", _ALLOW))
        entries += _extra(rules.allow_lists, _ALLOW)
        for reason in WORD_LISTS:
            if getattr(rules, reason) != "off":
                entries += read_list(_FOLDER / f"{reason}.txt", reason)
                entries += _extra(getattr(rules, f"{reason}_lists"), reason)
        self.found = frozenset(entry.word for entry in entries if entry.reason != _ALLOW)
        self.plain = _automaton(entries)
        self.disguised = _automaton(
            entry for entry in entries if entry.disguised or entry.reason == _ALLOW
        )

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Hits as (start, end, reason) in ``text``; they may overlap."""
        lower = text.replace("İ", "i").lower()  # the one character whose lower case is two
        hits, allowed = [], []
        for last, found in self.plain.iter(lower):
            for entry in found:
                start = last + 1 - len(entry.word)
                if entry.reason == _ALLOW:
                    allowed.append((start, last + 1))
                elif _bounded(lower, start, last + 1, entry):
                    hits.append((start, last + 1, entry.reason))
        squeezed = _NOT_KOREAN.sub("", lower)
        if len(squeezed) < len(lower) and next(self.disguised.iter(squeezed), None):
            self._disguised(lower, hits, allowed)
        composed = _LONE_JAMO.sub(_syllable, lower) if _LONE_JAMO.search(lower) else lower
        if composed != lower and any(self._plainly(composed)):
            hits += [(*found.span(), reason) for found, reason in self._spelled(lower)]
        for start, end, reason in hits:
            if not any(low <= start and end <= high for low, high in allowed):
                yield start, end, reason

    def _plainly(self, text: str) -> Iterator[str]:
        """The reasons of the entries that stand in ``text`` as they are written."""
        for last, found in self.plain.iter(text):
            for entry in found:
                start = last + 1 - len(entry.word)
                if entry.reason != _ALLOW and _bounded(text, start, last + 1, entry):
                    yield entry.reason

    def _spelled(self, text: str) -> Iterator[tuple[re.Match[str], str]]:
        """Words around jamo that are entries once the jamo are put together (ㅅㅣ발)."""
        for found in re.finditer(r"\S+", text):
            if _LONE_JAMO.search(found[0]):
                for reason in set(self._plainly(_LONE_JAMO.sub(_syllable, found[0]))):
                    yield found, reason

    def _disguised(
        self, text: str, hits: list[tuple[int, int, str]], allowed: list[tuple[int, int]]
    ) -> None:
        places = [at for at, character in enumerate(text) if not _NOT_KOREAN.match(character)]
        squeezed = "".join(text[at] for at in places)
        for last, found in self.disguised.iter(squeezed):
            for entry in found:
                size = len(entry.word)
                inner = places[last + 1 - size : last + 1]
                start, end = inner[0], inner[-1] + 1
                if end - start == size:
                    continue  # nothing between: the plain automaton has it
                if entry.reason == _ALLOW:
                    allowed.append((start, end))
                elif _is_disguise(text, inner):
                    hits.append((start, end, entry.reason))


def _extra(paths: Iterable[Path], reason: str) -> list[Entry]:
    return [entry for path in paths for entry in read_list(Path(path), reason)]


def _automaton(entries: Iterable[Entry]) -> Any:
    automaton = require("ahocorasick", extra="corpus").Automaton()
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry.word, []).append(entry)
    for word, found in grouped.items():
        automaton.add_word(word, tuple(found))
    automaton.make_automaton()
    return automaton


def _is_start(text: str, at: int) -> bool:
    return at == 0 or not (_LETTER.match(text[at - 1]) or text[at - 1].isdigit())


def _bounded(text: str, start: int, end: int, entry: Entry) -> bool:
    if entry.starts and not _is_start(text, start):
        return False
    return not entry.ends or _PARTICLE.match(text, end) is not None


def _is_disguise(text: str, places: list[int]) -> bool:
    """Whether what stands between the letters hides a word and does not part two.

    A space parts words: 시 발 counts as a whole word only, 도시 발전 and 3시 발표 do not. Signs and
    digits count from the start of a word on (시1발놈).
    """
    spaced = False
    for here, there in pairwise(places):
        gap = text[here + 1 : there]
        if len(gap) > _WIDEST_GAP or _LETTER.search(gap):
            return False
        spaced = spaced or " " in gap
    if not _is_start(text, places[0]):
        return False
    return not spaced or _PARTICLE.match(text, places[-1] + 1) is not None


def _syllable(found: re.Match[str]) -> str:
    lead, tail = _LEADS.find(found[1]), _TAILS.find(found[3] or " ")
    if lead < 0 or tail < 0:
        return found[0]
    return chr(0xAC00 + (lead * 21 + ord(found[2]) - ord("ㅏ")) * 28 + tail)
