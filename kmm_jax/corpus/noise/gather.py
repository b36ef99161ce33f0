"""The second pass: the vectors of each word's pictures added up, and a few of the pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import numpy as np

from kmm_jax.corpus.noise.agreement import Sums
from kmm_jax.corpus.noise.counting import Counted, words_of
from kmm_jax.corpus.noise.stream import Place, Row, Shards, digest
from kmm_jax.corpus.noise.vectors import Vectors
from kmm_jax.corpus.noise.words import of_record

_BATCH = 512
_EXAMPLES = 12


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture of a word: its hash, where it is and the text it stands in."""

    image_hash: str
    place: Place
    text: str


@dataclass(kw_only=True)
class Gathered:
    """What the second pass found.

    Attributes:
        met_V: how often each word was met; ``sums.counts_V`` lags behind by a batch.
        examples: pictures of each word, every one of them equally likely.
        without_vector: rows whose picture has none.
        seen: of pictures in several rows, the words so far.
    """

    sums: Sums
    met_V: np.ndarray
    examples: list[list[Example]]
    without_vector: int = 0
    seen: dict[int, set[int]] = field(default_factory=dict)


def gather(
    shards: Shards,
    vectors: Vectors,
    counted: Counted,
    progress: Callable[[int], None],
) -> Gathered:
    """Read the shards once more; a picture counts once for each word, in however many rows."""
    words = len(counted.ids)
    gathered = Gathered(
        sums=Sums(words, vectors.dim),
        met_V=np.zeros(words, np.int64),
        examples=[[] for _ in range(words)],
    )
    random = Random(0)
    done = 0
    for rows in _batches(shards, images=vectors.needs_images):
        numbers, vectors_ND = vectors.of(rows)
        gathered.without_vector += len(rows) - len(numbers)
        digests = [digest(rows[number].image_hash) for number in numbers]
        told: list[list[int]] = []
        first: list[int] = []
        for at, number in enumerate(numbers):
            ids, is_first = _new_words(rows[number], digests[at], counted, gathered)
            told.append(ids)
            if is_first:
                first.append(at)
            for word in ids:
                _sample(gathered, rows[number], word, counted, random)
        gathered.sums.add_pictures(np.array(digests, np.uint64)[first], vectors_ND[first])
        gathered.sums.add_words(told, vectors_ND)
        done += len(rows)
        progress(done)
    return gathered


def _new_words(
    row: Row, its_digest: int, counted: Counted, gathered: Gathered
) -> tuple[list[int], bool]:
    """The words of a row that this picture did not have before, and whether it is new itself."""
    words = words_of(of_record(row.record), counted.stemmer)
    ids = {counted.ids[word] for word in words if word in counted.ids}
    if its_digest not in counted.repeated:
        return sorted(ids), True
    is_first = its_digest not in gathered.seen
    before = gathered.seen.setdefault(its_digest, set())
    new = ids - before
    before |= ids
    return sorted(new), is_first


def _sample(gathered: Gathered, row: Row, word: int, counted: Counted, random: Random) -> None:
    """Keep a few pictures of a word, every one of them equally likely (algorithm R, Knuth)."""
    held = gathered.examples[word]
    gathered.met_V[word] += 1
    place = len(held) if len(held) < _EXAMPLES else random.randrange(int(gathered.met_V[word]))
    if place < _EXAMPLES:
        text = _text_with(row, word, counted)
        example = Example(image_hash=row.image_hash, place=row.place, text=text)
        held[place : place + 1] = [example]


def _text_with(row: Row, number: int, counted: Counted) -> str:
    """The first text of a row that holds a word, as its tokens."""
    for text in of_record(row.record):
        if any(counted.ids.get(word) == number for word in words_of([text], counted.stemmer)):
            return " ".join(text)
    return ""


def _batches(shards: Shards, *, images: bool) -> Iterator[list[Row]]:
    rows = shards.rows(images=images)
    while batch := list(itertools.islice(rows, _BATCH)):
        yield batch
