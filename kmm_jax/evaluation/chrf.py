"""chrF: agreement in runs of letters, whatever the spacing; endings and particles cost little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kmm_jax.evaluation.caption_statistics import Statistics
from kmm_jax.evaluation.ngrams import ngrams
from kmm_jax.text.normalize import normalize

_ORDER = 6
_BETA = 2.0


def chrf(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus chrF2 in [0, 1], see :func:`chrf_statistics`.

    Args:
        references: at least one text for each caption.
    """
    return chrf_statistics(captions, references).corpus()


def chrf_statistics(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    """chrF2 in [0, 1] (Popović, WMT 2015): (1 + 4) P R / (4 P + R).

    P and R are precision and recall of character n-grams over the whole corpus, white space left
    out, averaged over those of the orders 1 to 6 that caption and reference texts are long enough
    for. Of several references, the one with the best score for its caption counts.

    Args:
        references: at least one text for each caption.
    """
    counts_NS = np.zeros((len(captions), 3 * _ORDER))
    for row_S, caption, texts in zip(counts_NS, captions, references, strict=True):
        each_TS = np.asarray([_counts(caption, text) for text in texts], np.float64)
        row_S[:] = each_TS[_score(each_TS).argmax()]
    return Statistics(values_NS=counts_NS, score_of=_score)


def _counts(caption: str, reference: str) -> list[int]:
    """For each order: n-grams in the caption, in the reference, in both."""
    one, other = (list("".join(normalize(text).split())) for text in (caption, reference))
    counts = []
    for n in range(1, _ORDER + 1):
        found, truth = ngrams(one, n), ngrams(other, n)
        # A reference too short for this order says nothing about the caption's n-grams.
        counts += [found.total() if truth else 0, truth.total(), (found & truth).total()]
    return counts


def _score(sums_RS: np.ndarray) -> np.ndarray:
    found_RO, truth_RO, both_RO = sums_RS.reshape(len(sums_RS), _ORDER, 3).transpose(2, 0, 1)
    effective_RO = (found_RO > 0) & (truth_RO > 0)
    orders_R = np.maximum(effective_RO.sum(axis=1), 1)
    precision_R, recall_R = (
        np.divide(both_RO, all_RO, out=np.zeros_like(both_RO), where=effective_RO).sum(axis=1)
        / orders_R
        for all_RO in (found_RO, truth_RO)
    )
    weighted_R = _BETA**2 * precision_R + recall_R
    score_R = np.zeros_like(weighted_R)
    return np.divide(
        (1 + _BETA**2) * precision_R * recall_R, weighted_R, out=score_R, where=weighted_R > 0
    )
