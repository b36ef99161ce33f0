"""Which texts of a batch need to be looked at: a pass over all of them as one array.

Every test is a necessary condition of what it stands for, so a text that passes all of them is
kept unchanged, and nothing is decided here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kmm_jax.corpus.text.clean import Cleaner
    from kmm_jax.corpus.text.words import Words

# Typographic signs that are in normal form, belong to no language and are no emoji.
_SIGNS = (
    "‘’“”…·•ㆍ★☆♥♡♪♬→←↑↓↔※○●◎◇◆□■△▲▽▼▶◀▷◁〈〉《》「」『』【】〔〕℃℉㎡㎥㎏㎜㎝㎞㎖㎎㎍ℓ×÷±°²³½¼¾"
    "´¨–—―∼™®©£€¥￦♀♂☎✔✓№㈜"
)
_ODD, _HANGUL, _LATIN, _DIGIT, _SPACE, _LEAD, _VOWEL, _SIGN = range(8)
_LONGEST_UNIT = 8
_SEVEN = 7
# What disguised e-mail addresses and spelled phone numbers begin with; :func:`_links` has the rest.
_BEGINNINGS = (
    ["골뱅이", "(at", "[at", "(골", "[골", "(앳", "[앳"]
    + ["( a", "[ a", "( 골", "[ 골", "( 앳", "[ 앳"]
    + [
        f"{zero}{gap}{one}{rest}"
        for zero in "0공영o"
        for gap in ("", " ")
        for one in "1일li"
        for rest in ("0", "공", "영", "o", " ")
    ]
)
_TABLE_BITS = 22
_SCATTER = np.uint32(2654435761)  # 2**32 over the golden ratio: Knuth, TAOCP 3, 6.4


def suspects(cleaner: Cleaner, texts: Sequence[str]) -> np.ndarray:
    """The rows of ``texts``, in order, that may hold anything to change or to report."""
    if not texts:
        return np.empty(0, np.int64)
    # A line break is the separator; a text that holds one is looked at in any case.
    joined = "\n".join(["" if "\n" in text else text for text in texts]) + "\n"
    codes = _codes(joined)
    # İ is the one character whose lower case is two.
    lower = _codes(joined.replace("İ", "i").lower())
    ends = np.flatnonzero(codes == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    kinds = _kinds()[np.minimum(codes, 0xFFFF)]
    kinds[ends] = _SPACE

    marks = _spaces(codes, kinds) | _jamo_pairs(kinds) | _house_numbers(codes, kinds)
    marks |= (kinds == _ODD) | _links(codes, kinds) | _beginnings(lower, cleaner.words)
    marks[ends] |= starts == ends
    if cleaner.rules.shorten:
        marks |= _repetitions(codes, kinds)
    is_suspect = np.logical_or.reduceat(marks, starts)

    counts = {
        kind: np.add.reduceat(kinds == kind, starts, dtype=np.int32)
        for kind in (_LATIN, _DIGIT, _SPACE)
    }
    symbols = np.add.reduceat(kinds >= _LEAD, starts, dtype=np.int32)
    if cleaner.rules.count_latin:
        symbols += counts[_LATIN]
    written = ends + 1 - starts - counts[_SPACE]
    is_suspect |= (counts[_DIGIT] >= _SEVEN) | (symbols >= cleaner.rules.symbol_share * written)

    is_korean = (kinds == _HANGUL) | (kinds == _LEAD) | (kinds == _VOWEL) | (codes == 10)
    places = np.flatnonzero(is_korean)
    squeezed = codes[places].tobytes().decode("utf-32-le", "surrogatepass")
    hits = [places[last] for last, _ in cleaner.words.disguised.iter(squeezed)]
    is_suspect[np.searchsorted(ends, hits)] = True
    return np.flatnonzero(is_suspect)


@functools.cache
def _kinds() -> np.ndarray:
    """The kind of every code point of the basic plane; the rest counts as its last one, odd."""
    kinds = np.full(0x10000, _ODD, np.uint8)
    kinds[0x21:0x7F] = _SIGN
    for first, last, kind in (
        ("가", "힣", _HANGUL), ("A", "Z", _LATIN), ("a", "z", _LATIN), ("0", "9", _DIGIT),
        ("ㄱ", "ㅎ", _LEAD), ("ㅏ", "ㅣ", _VOWEL),
    ):  # fmt: skip
        kinds[ord(first) : ord(last) + 1] = kind
    kinds[[ord(sign) for sign in _SIGNS]] = _SIGN
    kinds[0x20] = _SPACE
    return kinds


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _hashed(codes: np.ndarray, size: int) -> np.ndarray:
    """For each place, a number made of the ``size`` code points from there on."""
    count = max(len(codes) - size + 1, 0)
    number = codes[:count].copy()
    for step in range(1, size):
        number = number * _SCATTER + codes[step : step + count]
    return (number * _SCATTER) >> np.uint32(32 - _TABLE_BITS)


@functools.lru_cache(maxsize=8)
def _tables(words: Words) -> tuple[np.ndarray, ...]:
    """By length, one to three: where the numbers of the entries' first characters are."""
    tables = tuple(np.zeros(1 << _TABLE_BITS, bool) for _ in range(3))
    for word in [*words.found, *_BEGINNINGS]:
        size = min(len(word), 3)
        tables[size - 1][_hashed(_codes(word)[:size], size)] = True
    return tables


def _beginnings(lower: np.ndarray, words: Words) -> np.ndarray:
    """Where an entry of any list may begin: its first three characters stand there.

    An automaton over all texts would take most of the time: its root has hundreds of branches.
    """
    marks = np.zeros(len(lower), bool)
    for size, table in enumerate(_tables(words), start=1):
        found = table[_hashed(lower, size)]
        marks[: len(found)] |= found
    return marks


def _links(codes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """An @, a dot before a letter, or a colon before a slash."""
    marks = codes == ord("@")
    marks[:-1] |= (codes[:-1] == ord(".")) & (kinds[1:] == _LATIN)
    marks[:-1] |= (codes[:-1] == ord(":")) & (codes[1:] == ord("/"))
    return marks


def _spaces(codes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Spaces at the ends of a row (its separator is one) or behind another."""
    is_space = kinds == _SPACE
    marks = np.zeros(len(codes), bool)
    marks[1:] = is_space[1:] & is_space[:-1]
    marks[0] = is_space[0]
    # behind a separator the mark belongs to the row that begins there, which is where it stands
    return marks


def _jamo_pairs(kinds: np.ndarray) -> np.ndarray:
    marks = np.zeros(len(kinds), bool)
    marks[:-1] = (kinds[:-1] == _LEAD) & (kinds[1:] == _VOWEL)
    return marks


def _house_numbers(codes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Digits behind a syllable that ends a road or a neighbourhood, a space between or not."""
    behind = np.zeros(0x10000, bool)
    behind[[ord(name) for name in "로길동리가읍면산하"]] = True
    is_name = behind[np.minimum(codes, 0xFFFF)]
    marks = np.zeros(len(codes), bool)
    is_digit = kinds == _DIGIT
    marks[1:] = is_digit[1:] & is_name[:-1]
    marks[2:] |= is_digit[2:] & (kinds[1:-1] == _SPACE) & is_name[:-2]
    return marks


def _repetitions(codes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Where a unit of one to eight characters stands three times, spaces between or not."""
    size = len(codes)
    marks = np.zeros(size, bool)
    is_dot = codes == ord(".")
    is_word = (kinds != _DIGIT) & (kinds != _SPACE)
    same = codes[:-1] == codes[1:]
    marks[:-2] = same[:-1] & same[1:] & is_word[:-2]
    marks[:-3] &= ~is_dot[:-3] | (same[2:] & is_dot[:-3])  # three dots are an ellipsis
    is_space = kinds == _SPACE
    for unit in range(2, min(_LONGEST_UNIT, size // 3) + 1):
        close, apart = _pairs(codes, unit, unit), _pairs(codes, unit, unit + 1)
        apart[: size - unit] &= is_space[unit:]
        either = close | apart
        marks[: size - unit] |= close[: size - unit] & either[unit:]
        marks[: size - unit - 1] |= apart[: size - unit - 1] & either[unit + 1 :]
    return marks


def _pairs(codes: np.ndarray, unit: int, period: int) -> np.ndarray:
    """Where ``unit`` characters are the same ``period`` characters on."""
    size = len(codes)
    pairs = np.zeros(size, bool)
    if size > period + unit:
        same = codes[:-period] == codes[period:]
        count = size - period - unit + 1
        whole = same[:count].copy()
        for step in range(1, unit):
            whole &= same[step : step + count]
        pairs[:count] = whole
    return pairs
