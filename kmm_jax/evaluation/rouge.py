"""ROUGE-L: the most words that caption and reference share in the same order."""

from __future__ import annotations

from collections.abc import Sequence

from kmm_jax.evaluation.caption_statistics import Statistics, Tokens, mean_of

_BETA = 1.2


def rouge_l_statistics(
    captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> Statistics:
    """ROUGE-L in [0, 1] as pycocoevalcap's ``Rouge`` has it; a corpus scores its captions' mean.

    (1 + b^2) P R / (R + b^2 P) with b = 1.2 (Lin, ACL 2004 workshop, equation 4): P is the longest
    common subsequence over the caption's length, R that over the reference's, and each is the best
    over the references, which need not be the same one.

    Args:
        references: at least one for each caption.
    """
    scores = []
    for tokens, others in zip(captions, references, strict=True):
        common = [longest_common_subsequence(tokens, other) for other in others]
        if not any(common):
            scores.append(0.0)
            continue
        precision = max(common) / len(tokens)
        recall = max(
            length / len(other) for length, other in zip(common, others, strict=True) if other
        )
        scores.append((1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision))
    return mean_of(scores)


def longest_common_subsequence(one: Tokens, other: Tokens) -> int:
    """Its length; a bit for each token of ``one``, all updated at once (Hyyrö, AWOCA 2004)."""
    places: dict[str, int] = {}
    for place, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << place
    every = (1 << len(one)) - 1
    row = every
    for token in other:
        found = row & places.get(token, 0)
        row = (row + found | row - found) & every
    return len(one) - row.bit_count()
