"""Byte-pair merges learned over words that are cut already.

``tokenizers`` learns merges from single letters only. Here a word begins as whatever pieces it has,
so that merges can be learned on top of others: behind those of a tokenizer that is extended, or
from bytes.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import pairwise

from tokenizers import normalizers, pre_tokenizers

Word = tuple[str, ...]
"""The pieces of a word, from its beginning to its end."""

Merge = tuple[str, str]

# A pair that one word has once teaches nothing about the pair.
_MINIMUM_COUNT = 2


def learn_merges(
    words: Mapping[Word, int],
    most: int,
    *,
    taken: Collection[str] = (),
    allowed: Callable[[str], bool] = lambda piece: True,
) -> list[Merge]:
    """The ``most`` merges that shorten the words best, one after another, or fewer.

    Each joins the most frequent neighbours that are left (of several, those first by spelling) into
    a piece that did not exist. So a tokenizer that applies its own merges first and then these cuts
    every word as the learner saw it, and every merge fires.

    Args:
        words: each cut into pieces, with how often it occurs.
        taken: pieces that exist already, besides those in ``words``.
        allowed: whether a merge may make this piece.
    """
    return _Learner(words, {*taken, *(piece for word in words for piece in word)}, allowed).learn(
        most
    )


def count_words(
    texts: Iterable[str],
    normalizer: normalizers.Normalizer,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> Counter[str]:
    """How often each word occurs, as the two steps of a tokenizer spell and part them."""
    words: Counter[str] = Counter()
    for text in texts:
        # Half a surrogate pair cannot cross into the backend.
        clean = text.encode("utf-8", "ignore").decode("utf-8")
        pieces = pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(clean))
        words.update(piece for piece, _ in pieces)
    return words


class _Learner:
    """Pairs with their counts and places, kept up to date while words are joined."""

    def __init__(
        self, words: Mapping[Word, int], known: set[str], allowed: Callable[[str], bool]
    ) -> None:
        ordered = sorted(words.items())
        self.cuts = [list(word) for word, _ in ordered]
        self.weights = [count for _, count in ordered]
        self.known = known
        self.allowed = allowed
        self.counts: defaultdict[Merge, int] = defaultdict(int)
        self.places: defaultdict[Merge, set[int]] = defaultdict(set)
        self.heap: list[tuple[int, Merge]] = []
        for number, (cut, weight) in enumerate(zip(self.cuts, self.weights, strict=True)):
            for pair in pairwise(cut):
                self.counts[pair] += weight
                self.places[pair].add(number)
        for pair in self.counts:
            self._offer(pair)

    def learn(self, most: int) -> list[Merge]:
        merges: list[Merge] = []
        while len(merges) < most and (pair := self._best()) is not None:
            merges.append(pair)
            self._join(pair)
        return merges

    def _best(self) -> Merge | None:
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if pair[0] + pair[1] in self.known:
                continue  # made of other halves meanwhile
            if self.counts[pair] == -count:
                return pair
            self._offer(pair)  # joins nearby have made it rarer since it was offered
        return None

    def _offer(self, pair: Merge) -> None:
        count, piece = self.counts[pair], pair[0] + pair[1]
        if count >= _MINIMUM_COUNT and piece not in self.known and self.allowed(piece):
            heapq.heappush(self.heap, (-count, pair))

    def _join(self, pair: Merge) -> None:
        piece = pair[0] + pair[1]
        self.known.add(piece)
        made: set[Merge] = set()
        for number in self.places.pop(pair):
            weight = self.weights[number]
            for old in pairwise(self.cuts[number]):
                self.counts[old] -= weight
            self.cuts[number] = joined(self.cuts[number], pair)
            for new in pairwise(self.cuts[number]):
                self.counts[new] += weight
                if piece in new:
                    self.places[new].add(number)
                    made.add(new)
        for new in made:
            self._offer(new)


def joined(pieces: list[str], pair: Merge) -> list[str]:
    """``pieces`` with each such pair of neighbours made one, from the left."""
    left, right = pair
    result: list[str] = []
    position = 0
    while position < len(pieces):
        if pieces[position] == left and pieces[position + 1 : position + 2] == [right]:
            result.append(left + right)
            position += 2
        else:
            result.append(pieces[position])
            position += 1
    return result
