"""BLEU of a corpus of captions."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from kmm_jax.evaluation.caption_statistics import Statistics, Tokens
from kmm_jax.evaluation.ngrams import ngrams, words

_ORDERS = 4
# What pycocoevalcap adds to the counters and to the denominators of its ratios.
_TINY, _SMALL = 1e-15, 1e-9


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]], *, order: int = 4) -> float:
    """Corpus BLEU of ``words`` in [0, 1], unsmoothed (Papineni et al., ACL 2002, sections 2.1-2.3).

    BP * exp(mean over n of log p_n): p_n are clipped n-gram precisions of the whole corpus, and BP
    is 1 if the captions are together longer than r, else exp(1 - r / c); r sums, for each caption,
    the length of the reference nearest in length, the shorter of two equally near.

    Args:
        references: at least one text for each caption.
    """
    counts_NS = _counts(
        [words(caption) for caption in captions],
        [[words(text) for text in texts] for texts in references],
        order,
    )
    score_of = functools.partial(_score, order=order, tiny=0.0, small=0.0)
    return Statistics(values_NS=counts_NS, score_of=score_of).corpus()


def bleu_statistics(
    captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> tuple[Statistics, ...]:
    """BLEU-1 to BLEU-4 as pycocoevalcap's ``Bleu(4)`` has them ("closest" reference lengths).

    It adds 1e-15 to each number of matches and 1e-9 to each denominator. Where some match there is
    for each n, that is :func:`bleu` to nine digits; where there is none, a corpus scores not 0 but
    up to some 1e-4.

    Args:
        references: at least one for each caption.
    """
    counts_NS = _counts(captions, references, _ORDERS)
    return tuple(
        Statistics(
            values_NS=counts_NS,
            score_of=functools.partial(_score, order=order, tiny=_TINY, small=_SMALL),
        )
        for order in range(1, _ORDERS + 1)
    )


def _counts(
    captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]], orders: int
) -> np.ndarray:
    """For each caption: its length, its reference's, matched n-grams of each n, possible ones."""
    counts_NS = np.zeros((len(captions), 2 + 2 * orders))
    for row_S, tokens, others in zip(counts_NS, captions, references, strict=True):
        length = len(tokens)
        row_S[0] = length
        row_S[1] = min((abs(len(other) - length), len(other)) for other in others)[1]
        for n in range(1, orders + 1):
            found = ngrams(tokens, n)
            most: Counter[tuple[str, ...]] = Counter()
            for other in others:
                most |= ngrams(other, n)
            row_S[1 + n] = (found & most).total()
            row_S[1 + orders + n] = found.total()
    return counts_NS


def _score(sums_RS: np.ndarray, *, order: int, tiny: float, small: float) -> np.ndarray:
    orders = (sums_RS.shape[1] - 2) // 2
    length_R, reference_length_R = sums_RS[:, 0], sums_RS[:, 1]
    matched_RO = sums_RS[:, 2 : 2 + order]
    possible_RO = sums_RS[:, 2 + orders : 2 + orders + order]
    # Nothing to count is 0 / 0; a caption of nothing has a brevity penalty of exp(-infinity).
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_RO = (matched_RO + tiny) / (possible_RO + small)
        ratio_R = (length_R + tiny) / (reference_length_R + small)
        brevity_R = np.exp(np.minimum(0.0, 1 - 1 / ratio_R))
        score_R = brevity_R * precision_RO.prod(axis=1) ** (1 / order)
    return np.nan_to_num(score_R, nan=0.0)
