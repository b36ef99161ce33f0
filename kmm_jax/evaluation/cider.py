"""CIDEr-D: agreement of a caption with its references in rare n-grams."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from kmm_jax.evaluation.ngrams import ngrams, words

_ORDERS = (1, 2, 3, 4)
_SIGMA = 6.0

Gram = tuple[str, ...]


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean CIDEr-D in [0, 10] (Vedantam et al., CVPR 2015, arXiv 1411.5726, section 4, CIDEr-D).

    For each n of 1 to 4, the mean over references of 10 * exp(-(difference of length)^2 / (2 * 36))
    * min(g, s) . s / (|g| |s|), where g and s weigh the n-grams of caption and reference by count
    times log(images / images whose references hold the n-gram); then the mean over n. Document
    frequencies are those of ``references``. Papers print 100 times CIDEr / 10, thus 10 times this.

    Args:
        references: at least one text for each caption.
    """
    truth = [[_counts(text) for text in texts] for texts in references]
    holding: Counter[Gram] = Counter()
    for texts in truth:
        holding.update({gram for _, counts in texts for grams in counts for gram in grams})
    log_images = math.log(len(truth)) if truth else 0.0

    def weigh(counts: Mapping[Gram, int]) -> dict[Gram, float]:
        return {
            gram: count * (log_images - math.log(max(holding[gram], 1)))
            for gram, count in counts.items()
        }

    total = 0.0
    for caption, texts in zip(captions, truth, strict=True):
        length, counts = _counts(caption)
        weighed = [weigh(grams) for grams in counts]
        for other_length, other_counts in texts:
            nearness = math.exp(-((length - other_length) ** 2) / (2 * _SIGMA**2))
            agreement = sum(
                _clipped_cosine(one, weigh(other))
                for one, other in zip(weighed, other_counts, strict=True)
            )
            total += 10.0 * nearness * agreement / (len(_ORDERS) * len(texts))
    return total / len(truth)


def _counts(text: str) -> tuple[int, list[Counter[Gram]]]:
    """Number of words, and the n-grams of each order."""
    tokens = words(text)
    return len(tokens), [ngrams(tokens, n) for n in _ORDERS]


def _clipped_cosine(one: Mapping[Gram, float], other: Mapping[Gram, float]) -> float:
    dot = sum(min(one[gram], other[gram]) * other[gram] for gram in one.keys() & other.keys())
    norms = math.hypot(*one.values()) * math.hypot(*other.values())
    return dot / norms if norms else 0.0
