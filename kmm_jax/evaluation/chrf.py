"""chrF: agreement in runs of letters, whatever the spacing; endings and particles cost little."""

from __future__ import annotations

from collections.abc import Sequence

from kmm_jax.evaluation.ngrams import ngrams
from kmm_jax.text.normalize import normalize

_ORDER = 6
_BETA = 2.0

# (in the caption, in the reference, in both) for n-grams of each order
Counts = list[tuple[int, int, int]]


def chrf(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus chrF2 in [0, 1] (Popović, WMT 2015): (1 + 4) P R / (4 P + R).

    P and R are precision and recall of character n-grams over the whole corpus, white space left
    out, averaged over those of the orders 1 to 6 that caption and reference texts are long enough
    for. Of several references, the one with the best score for its caption counts.

    Args:
        references: at least one text for each caption.
    """
    total: Counts = [(0, 0, 0)] * _ORDER
    for caption, texts in zip(captions, references, strict=True):
        best = max((_counts(caption, text) for text in texts), key=_score)
        total = [(a + d, b + e, c + f) for (a, b, c), (d, e, f) in zip(total, best, strict=True)]
    return _score(total)


def _counts(caption: str, reference: str) -> Counts:
    one, other = (list("".join(normalize(text).split())) for text in (caption, reference))
    counts = []
    for n in range(1, _ORDER + 1):
        found, truth = ngrams(one, n), ngrams(other, n)
        # A reference too short for this order says nothing about the caption's n-grams.
        counts.append((found.total() if truth else 0, truth.total(), (found & truth).total()))
    return counts


def _score(counts: Counts) -> float:
    effective = [(a, b, both) for a, b, both in counts if a and b]
    if not any(both for _, _, both in effective):
        return 0.0
    precision = sum(both / a for a, _, both in effective) / len(effective)
    recall = sum(both / b for _, b, both in effective) / len(effective)
    return (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)
