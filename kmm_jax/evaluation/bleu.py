"""BLEU of a corpus of captions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from kmm_jax.evaluation.ngrams import ngrams, words


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]], *, order: int = 4) -> float:
    """Corpus BLEU in [0, 1], unsmoothed (Papineni et al., ACL 2002, sections 2.1 to 2.3).

    BP * exp(mean over n of log p_n): p_n are clipped n-gram precisions of the whole corpus, and BP
    is 1 if the captions are together longer than r, else exp(1 - r / c); r sums, for each caption,
    the length of the reference nearest in length, the shorter of two equally near.

    Args:
        references: at least one text for each caption.
    """
    matched, possible = [0] * order, [0] * order
    length = reference_length = 0
    for caption, texts in zip(captions, references, strict=True):
        tokens = words(caption)
        others = [words(text) for text in texts]
        length += len(tokens)
        reference_length += min((abs(len(o) - len(tokens)), len(o)) for o in others)[1]
        for n in range(1, order + 1):
            found = ngrams(tokens, n)
            most: Counter[tuple[str, ...]] = Counter()
            for other in others:
                most |= ngrams(other, n)
            matched[n - 1] += (found & most).total()
            possible[n - 1] += found.total()
    if not all(matched):
        return 0.0
    log_precision = sum(math.log(m / p) for m, p in zip(matched, possible, strict=True)) / order
    return math.exp(min(0.0, 1 - reference_length / length) + log_precision)
