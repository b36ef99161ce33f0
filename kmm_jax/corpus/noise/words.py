"""The words of a text: its tokens without particles, and short texts as a whole."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kmm_jax.data.schema import texts
from kmm_jax.text.normalize import normalize

FIELDS = ("query", "title", "product_name")

_TOKEN = re.compile(r"[^\W_]+")
_LETTER = re.compile(r"[^\W\d_]")
_LEAST_LETTERS = 2
_LONGEST_PHRASE = 3

# Particles by what they follow: a syllable with a final consonant, without one, or any. Those
# that end many nouns (나, 야) are left out: one too few costs a little, one too many a word.
_AFTER_CONSONANT = ("은", "이", "을", "과", "으로", "이랑", "으로는", "이라는")
_AFTER_VOWEL = ("는", "가", "를", "와", "로", "랑", "로는", "라는")
_AFTER_ANY = (
    *("에서는", "에서도", "에서", "에게", "에는", "에도", "까지", "부터", "처럼"),
    *("보다", "마다", "한테", "하고", "의", "에", "도", "만"),
)
_RIEUL = 8  # its number among the final consonants; 로 follows it as it follows a vowel


def of_record(record: Mapping[str, Any]) -> list[list[str]]:
    """The tokens of each text of a record (query, title, product_name), lower case."""
    found = (tokens(text) for field, text, _ in texts(record) if field in FIELDS)
    return [some for some in found if some]


def tokens(text: str) -> list[str]:
    """The tokens of a text in order: letters and digits, with a letter, of two characters or more.

    >>> tokens("[당일] 로또를 1153회 사는 H라인")
    ['당일', '로또를', '1153회', '사는', 'h라인']
    """
    return [
        token
        for token in _TOKEN.findall(normalize(text).lower())
        if len(token) >= _LEAST_LETTERS and _LETTER.search(token)
    ]


def phrase(of: list[str]) -> str | None:
    """A text of two or three tokens as one word (``코로나 확진자``); None for others."""
    return " ".join(of) if 1 < len(of) <= _LONGEST_PHRASE else None


def stems(token: str) -> Iterator[str]:
    """What may be left of a token when its particle goes, the shortest first.

    Two syllables of Hangul at least stay, and the particle fits the one it follows: 주가 and 포도
    stay whole, 원피스를 becomes 원피스, and 가방가 nothing. Whether the rest is a word
    :class:`Stemmer` knows.
    """
    for particle in _PARTICLES:
        stem = token.removesuffix(particle)
        if stem != token and len(stem) >= _LEAST_LETTERS and _fits(stem[-1], particle):
            yield stem


class Stemmer:
    """Takes particles off where the rest stands alone at least as often.

    So 세계지도 keeps its 도 where nobody writes 세계지.

    Args:
        counts: of tokens as they are written.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts
        self.stem = functools.lru_cache(maxsize=1 << 20)(self._stem)

    def _stem(self, token: str) -> str:
        least = max(self._counts.get(token, 0), 1)
        return next((stem for stem in stems(token) if self._counts.get(stem, 0) >= least), token)


def _fits(last: str, particle: str) -> bool:
    if not "가" <= last <= "힣":
        return False
    final = (ord(last) - ord("가")) % 28
    if particle in _AFTER_ANY:
        return True
    if particle in _AFTER_CONSONANT:
        return final > 0 and not (final == _RIEUL and particle.startswith("으로"))
    return final == 0 or (final == _RIEUL and particle in ("로", "로는"))


_PARTICLES = sorted((*_AFTER_CONSONANT, *_AFTER_VOWEL, *_AFTER_ANY), key=len, reverse=True)
