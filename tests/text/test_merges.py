"""Merges learned with counts kept up to date are those of counting everything anew each time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kmm_jax.text.merges import joined, learn_merges

WORDS = st.dictionaries(
    st.text("abc", min_size=1, max_size=8).map(tuple), st.integers(1, 5), max_size=12
)


def counted_anew(words, most, taken, allowed=lambda piece: True):
    cuts = {word: list(word) for word in words}
    known = {*taken, *(piece for word in words for piece in word)}
    merges = []
    while len(merges) < most:
        counts = Counter()
        for word, cut in cuts.items():
            for pair in pairwise(cut):
                counts[pair] += words[word]
        best = [
            (-count, pair)
            for pair, count in counts.items()
            if count > 1 and "".join(pair) not in known and allowed("".join(pair))
        ]
        if not best:
            break
        pair = min(best)[1]
        merges.append(pair)
        known.add("".join(pair))
        cuts = {word: joined(cut, pair) for word, cut in cuts.items()}
    return merges


@given(WORDS, st.integers(0, 12))
def test_the_learner_agrees_with_counting_anew(words, most):
    assert learn_merges(words, most) == counted_anew(words, most, ())


@given(WORDS)
def test_pieces_that_exist_or_are_not_allowed_are_never_made(words):
    merges = learn_merges(words, 20, taken=["ab", "bca"], allowed=lambda piece: "c" in piece)
    assert merges == counted_anew(words, 20, ["ab", "bca"], lambda piece: "c" in piece)
    pieces = ["".join(pair) for pair in merges]
    assert len(set(pieces)) == len(pieces) and not {"ab", "bca"} & set(pieces)
    assert all("c" in piece for piece in pieces)


def test_words_may_begin_as_longer_pieces():
    words = {("th", "e"): 3, ("th", "en"): 2, ("th", "e", "m"): 1}
    assert learn_merges(words, 9) == [("th", "e"), ("th", "en")]


def test_neighbours_that_overlap_are_joined_from_the_left():
    assert joined(list("aaaab"), ("a", "a")) == ["aa", "aa", "b"]
    assert joined(list("aaa"), ("a", "a")) == ["aa", "a"]
    assert joined([], ("a", "a")) == []
