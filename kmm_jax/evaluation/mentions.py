"""Whether a caption names what its record is labelled with: garment, colour, pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from kmm_jax.text.normalize import normalize


def finder(words: Sequence[Sequence[str]]) -> Callable[[str], frozenset[int]]:
    """A function from a text to the numbers of the classes it names.

    Where words overlap, the longest of those that begin first counts: 티셔츠 names no 셔츠. A word
    may be part of a longer one (체크셔츠를), as Korean compounds are; a word of one letter must
    begin one (티를, but not 파티).

    Args:
        words: for each class, the words that name it; a word of several classes names them all.
    """
    classes: dict[str, set[int]] = {}
    for number, of_class in enumerate(words):
        for word in of_class:
            classes.setdefault(normalize(word).lower(), set()).add(number)
    longest_first = sorted(filter(None, classes), key=len, reverse=True)
    choices = [(r"\b" if len(word) == 1 else "") + re.escape(word) for word in longest_first]
    pattern = re.compile("|".join(choices) or r"(?!)")

    def find(text: str) -> frozenset[int]:
        found = pattern.findall(normalize(text).lower())
        return frozenset(number for word in found for number in classes[word])

    return find


def mention_rates(named: Sequence[frozenset[int]], truth_N: np.ndarray) -> tuple[float, float]:
    """The share of texts that name their true class, and what that share is by chance.

    Chance deals the texts to the rows at random: the mean over all pairs of a text and a row.

    Args:
        named: the classes that each text names.
        truth_N: class numbers.
    """
    right = float(np.mean([truth in found for found, truth in zip(named, truth_N, strict=True)]))
    size = int(max(int(truth_N.max()), max(max(found, default=0) for found in named))) + 1
    rows_C = np.bincount(truth_N, minlength=size)
    texts_C = np.bincount([number for found in named for number in found], minlength=size)
    return right, float(rows_C @ texts_C) / len(named) ** 2
