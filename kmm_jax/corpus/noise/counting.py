"""The first pass: which words are frequent, in bounded memory, and which pictures come twice."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from kmm_jax.corpus.noise.stream import Shards, digest
from kmm_jax.corpus.noise.words import Stemmer, of_record, phrase
from kmm_jax.errors import DataError

_DIGESTS_AT_ONCE = 1 << 16


class Counted(NamedTuple):
    """What the first pass found.

    Attributes:
        rows: good rows there are.
        ids: word -> number, of those that may be frequent enough.
        stemmer: takes particles off tokens.
        repeated: digests of pictures that stand in several rows.
        missed_below: a word, as it is written, in this many rows or fewer may have been missed; 0
            where memory sufficed.
    """

    rows: int
    ids: dict[str, int]
    stemmer: Stemmer
    repeated: frozenset[int]
    missed_below: int


def count(
    shards: Shards, *, least: int, most_words: int, progress: Callable[[int], None]
) -> Counted:
    """Count rows by word.

    Twice ``most_words`` tokens and phrases are held at most: at that number the rarest go (lossy
    counting; Manku and Motwani, VLDB 2002), so that a count may be too low by what went with them,
    which ``missed_below`` says. Pictures cost 8 bytes each.

    Raises:
        DataError: no good row.
    """
    counts: collections.Counter[str] = collections.Counter()
    lost = 0
    digests: list[np.ndarray] = []
    held: list[int] = []
    rows = 0
    for row in shards.rows():
        rows += 1
        held.append(digest(row.image_hash))
        if len(held) == _DIGESTS_AT_ONCE:
            digests.append(np.array(held, np.uint64))
            held = []
        counts.update(set(_raw(of_record(row.record))))
        if len(counts) > 2 * most_words:
            lost += _prune(counts, most_words)
        progress(rows)
    if not rows:
        raise DataError(
            f"{shards.shards[0]} ...: no good row in {len(shards.shards):,} shards ({shards.bad:,} "
            "bad ones); kmm data check says what is wrong"
        )
    stemmer = Stemmer(counts)
    total: collections.Counter[str] = collections.Counter()
    for word, number in counts.items():
        total[" ".join(stemmer.stem(token) for token in word.split(" "))] += number
    frequent = [
        word for word, number in total.most_common(most_words) if number + lost >= least
    ]  # fmt: skip
    found, times = np.unique(np.concatenate([*digests, np.array(held, np.uint64)]),
                             return_counts=True)  # fmt: skip
    return Counted(
        rows=rows,
        ids={word: number for number, word in enumerate(frequent)},
        stemmer=stemmer,
        repeated=frozenset(found[times > 1].tolist()),
        missed_below=lost + (total[frequent[-1]] if len(frequent) == most_words else 0),
    )


def words_of(texts: list[list[str]], stemmer: Stemmer) -> Iterator[str]:
    """The words of a picture's texts, particles taken off; some come twice."""
    return _raw([[stemmer.stem(token) for token in text] for text in texts])


def _raw(texts: list[list[str]]) -> Iterator[str]:
    for text in texts:
        yield from text
        if (whole := phrase(text)) is not None:
            yield whole


def _prune(counts: collections.Counter[str], most: int) -> int:
    """Keep at most the ``most`` frequent; returns the count at and below which words went."""
    values = np.fromiter(counts.values(), np.int64, len(counts))
    limit = int(np.partition(values, len(values) - most - 1)[len(values) - most - 1])
    for word in [word for word, number in counts.items() if number <= limit]:
        del counts[word]
    return limit
