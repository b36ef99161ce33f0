"""From shards to proposed noise words: three passes forward, memory by vocabulary.

    1  count words                          (records)
    2  add up the vectors of their pictures (records, and pictures where a model computes them)
    3  how often each stands alone          (records)

A noise word (slide 2.2: 로또, 주가, 영수증 ...) is frequent, its pictures agree no more than random
ones, and no other word of the text explains the picture. The last sets it apart from 추천 or 세일,
which stand on any picture too, but beside 원피스.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kmm_jax.corpus.noise import counting
from kmm_jax.corpus.noise.counting import Counted
from kmm_jax.corpus.noise.gather import Example, gather
from kmm_jax.corpus.noise.judge import EmbedText, Judged, judge
from kmm_jax.corpus.noise.stream import Shards
from kmm_jax.corpus.noise.vectors import Vectors
from kmm_jax.corpus.noise.words import of_record, phrase
from kmm_jax.errors import DataError, UserError

IsKnown = Callable[[str], bool]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A word and what speaks for it being noise.

    Attributes:
        pictures: distinct ones it stands beside.
        agreement: mean pairwise cosine of their vectors.
        z: standard deviations above a random set of as many.
        alone: share of its texts in which no other word explains the picture.
        similarity: cosine of the word with its pictures less that with all pictures; None without
            a text model.
        noise: from 0 to 1; by it proposals are sorted.
    """

    word: str
    pictures: int
    agreement: float
    z: float
    alone: float
    similarity: float | None
    noise: float
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """Proposed words, the likeliest noise first, and what they were found in.

    Attributes:
        pictures: with a vector; ``without_vector`` had none, ``bad`` rows could not be read.
        words: that were frequent enough to be judged.
        chance, typical: mean pairwise cosine of random pictures, and of the median word's.
        missed_below: words of up to so many pictures may have been missed for want of memory; 0:
            none.
    """

    words_found: list[Proposal]
    pictures: int
    without_vector: int
    bad: int
    words: int
    chance: float
    typical: float
    missed_below: int


def propose(
    shards: Shards,
    vectors: Vectors,
    *,
    least_count: int = 100,
    most: int = 200,
    most_words: int = 50_000,
    is_known: IsKnown = lambda _: False,
    embed_text: EmbedText | None = None,
    progress: Progress = lambda *_: None,
) -> Proposals:
    """Propose noise words.

    Memory: ``most_words`` sums of D float64 and 8 bytes a picture, whatever the number of rows.

    Args:
        least_count: pictures that a word must stand beside.
        most: proposals, at most.
        most_words: words judged, at most: the most frequent.
        is_known: whether a word is left out, being in a list already.
        embed_text: unit vectors of words in the space of the pictures; they then weigh in.
        progress: told the pass, rows done and rows in all (0 where not known).

    Raises:
        DataError: no good row, hardly a picture with a vector, or a shard that cannot be read.
        UserError: numbers that cannot work.
    """
    for name, value, least in (
        ("least_count", least_count, 2),
        ("most", most, 1),
        ("most_words", most_words, 1),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}, found {value}")
    counted = counting.count(
        shards,
        least=least_count,
        most_words=most_words,
        progress=lambda rows: progress("count", rows, 0),
    )
    bad = shards.bad
    gathered = gather(shards, vectors, counted, lambda rows: progress("agree", rows, counted.rows))
    if gathered.sums.pictures < 2:
        raise DataError(
            f"{gathered.sums.pictures} of {counted.rows:,} pictures have a vector; the embeddings "
            "must be of these shards (kmm embed MODEL SHARDS), their ids the image_hash"
        )
    judged = judge(gathered.sums, least_count, embed_text, list(counted.ids))
    alone_V = alone(shards, counted, judged, progress)
    noise_V = judged.noise_V * alone_V
    names = list(counted.ids)
    found: list[Proposal] = []
    for number in _worth_showing(np.lexsort((judged.ratio_V, -noise_V)), noise_V, counted):
        if len(found) == most:
            break
        if is_known(names[number]):
            continue
        proposal = Proposal(
            word=names[number],
            pictures=int(gathered.sums.counts_V[number]),
            agreement=float(judged.agreement_V[number]),
            z=float(judged.z_V[number]),
            alone=float(alone_V[number]),
            similarity=_at(judged.similarity_V, number),
            noise=float(noise_V[number]),
            examples=tuple(gathered.examples[number]),
        )
        found.append(proposal)
    return Proposals(
        words_found=found,
        pictures=gathered.sums.pictures,
        without_vector=gathered.without_vector,
        bad=bad,
        words=int(judged.enough_V.sum()),
        chance=judged.chance.mean,
        typical=judged.typical,
        missed_below=counted.missed_below if counted.missed_below >= least_count else 0,
    )


def alone(shards: Shards, counted: Counted, judged: Judged, progress: Progress) -> np.ndarray:
    """The third pass: for words that may be noise, the share of texts nothing else explains."""
    texts_V = np.zeros(len(counted.ids))
    alone_V = np.zeros(len(counted.ids))
    asked = judged.noise_V > 0
    for done, row in enumerate(shards.rows(), start=1):
        for text in of_record(row.record):
            stemmed = [counted.stemmer.stem(token) for token in text]
            ids = {counted.ids[word] for word in stemmed if word in counted.ids}
            explaining = {each for each in ids if judged.explains_V[each]}
            whole = counted.ids.get(phrase(stemmed) or "")
            for each in ids if whole is None else ids | {whole}:
                if asked[each]:
                    texts_V[each] += 1
                    alone_V[each] += not explaining - {each}
        progress("alone", done, counted.rows)
    return alone_V / np.maximum(texts_V, 1)


def _worth_showing(order: np.ndarray, noise_V: np.ndarray, counted: Counted) -> Iterator[int]:
    """Words that may be noise; no phrase that one of its words would take along."""
    names = list(counted.ids)
    for number in order:
        parts = names[number].split(" ")
        inside = [counted.ids[part] for part in parts if part in counted.ids and len(parts) > 1]
        if noise_V[number] > 0 and not any(2 * noise_V[one] >= noise_V[number] for one in inside):
            yield int(number)


def _at(values: np.ndarray | None, number: int) -> float | None:
    return None if values is None else float(values[number])
