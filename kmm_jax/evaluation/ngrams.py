"""Texts as words and n-grams: what the caption metrics count."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from kmm_jax.text.normalize import normalize

# Letters and digits of any script; a number keeps its point and comma (1.5, 10,000).
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+")


def words(text: str) -> list[str]:
    """The words of ``text``: normalised, lower case, split at white space and punctuation.

    Korean words stay whole with their particles (어절), as they are written: no analyser is asked,
    so figures compare between models scored by this library and with no others.
    """
    return _WORD.findall(normalize(text).lower())


def ngrams(items: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of ``order`` neighbouring items occurs."""
    return Counter(tuple(items[i : i + order]) for i in range(len(items) - order + 1))
