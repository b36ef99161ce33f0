"""CIDEr-D: agreement of a caption with its references in rare n-grams."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from kmm_jax.evaluation.caption_statistics import Statistics, Tokens, mean_of
from kmm_jax.evaluation.ngrams import ngrams, words

_ORDERS = (1, 2, 3, 4)
_SIGMA = 6.0

Gram = tuple[str, ...]


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean CIDEr-D of ``words`` in [0, 10], see :func:`cider_d_statistics`.

    Args:
        references: at least one text for each caption.
    """
    return cider_d_statistics(
        [words(caption) for caption in captions],
        [[words(text) for text in texts] for texts in references],
    ).corpus()


def cider_d_statistics(
    captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> Statistics:
    """CIDEr-D in [0, 10] (Vedantam et al., CVPR 2015, arXiv 1411.5726, section 4, CIDEr-D).

    For each n of 1 to 4, the mean over references of 10 * exp(-(difference of length)^2 / (2 * 36))
    * min(g, s) . s / (|g| |s|), where g and s weigh the n-grams of caption and reference by count
    times log(images / images whose references hold the n-gram); then the mean over n.

    This is what pycocoevalcap calls ``CIDEr``, and papers on COCO mean by it: 100 times CIDEr / 10,
    thus 10 times this. The paper's plain CIDEr, without min and exp, is nowhere reported.

    Document frequencies are those of all ``references``, of resamples too: a resample is of
    captions, and the weight of a word stays as it is.

    Args:
        references: at least one for each caption.
    """
    truth = [[_counts(tokens) for tokens in each] for each in references]
    holding: Counter[Gram] = Counter()
    for each in truth:
        holding.update({gram for _, counts in each for grams in counts for gram in grams})
    log_images = math.log(len(truth)) if truth else 0.0

    def weigh(counts: Mapping[Gram, int]) -> dict[Gram, float]:
        return {
            gram: count * (log_images - math.log(max(holding[gram], 1)))
            for gram, count in counts.items()
        }

    scores = []
    for tokens, each in zip(captions, truth, strict=True):
        length, counts = _counts(tokens)
        weighed = [weigh(grams) for grams in counts]
        total = 0.0
        for other_length, other_counts in each:
            nearness = math.exp(-((length - other_length) ** 2) / (2 * _SIGMA**2))
            agreement = sum(
                _clipped_cosine(one, weigh(other))
                for one, other in zip(weighed, other_counts, strict=True)
            )
            total += 10.0 * nearness * agreement / (len(_ORDERS) * len(each))
        scores.append(total)
    return mean_of(scores)


def _counts(tokens: Tokens) -> tuple[int, list[Counter[Gram]]]:
    """Number of tokens, and the n-grams of each order."""
    return len(tokens), [ngrams(tokens, n) for n in _ORDERS]


def _clipped_cosine(one: Mapping[Gram, float], other: Mapping[Gram, float]) -> float:
    dot = sum(min(one[gram], other[gram]) * other[gram] for gram in one.keys() & other.keys())
    norms = math.hypot(*one.values()) * math.hypot(*other.values())
    return dot / norms if norms else 0.0
