"""Which words' pictures agree no more than random ones, and which words explain a picture.

Letters: V words, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kmm_jax.corpus.noise.agreement import Chance, Sums, agreement

EmbedText = Callable[[list[str]], np.ndarray]

# Both chosen on shops of other seeds than those in docs/results/noise_words.md.
# Standard deviations that a word of few pictures may be above what was measured.
_DEVIATIONS = 1.0
# A smaller one is that of a set of all pictures, which is no random set: what is left is rounding.
_LEAST_DEVIATION = 1e-9
# Of the typical word's agreement, what a word needs beyond that doubt to explain a picture.
_EXPLAINS = 0.25


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Words beside chance; where ``enough_V`` is false a word has too few pictures.

    Attributes:
        typical: mean pairwise cosine of the median word's pictures.
        z_V: standard deviations above random sets; 0 for a word of all pictures.
        ratio_V: the most a word may agree beyond chance, over what the typical word does.
        explains_V: the least it may agree is a good part of that.
        similarity_V: of a word with its pictures less that with all; None without a text model.
        noise_V: 1 where ratio (and similarity) are nothing, 0 where they are typical, and for
            words that explain.
    """

    chance: Chance
    typical: float
    enough_V: np.ndarray
    agreement_V: np.ndarray
    z_V: np.ndarray
    ratio_V: np.ndarray
    explains_V: np.ndarray
    similarity_V: np.ndarray | None
    noise_V: np.ndarray


def judge(sums: Sums, least_count: int, embed_text: EmbedText | None, names: list[str]) -> Judged:
    """Compare each word's pictures with random ones; words of too few get no noise."""
    chance = sums.chance()
    counts_V = sums.counts_V
    enough_V = counts_V >= least_count
    safe_V = np.where(enough_V, counts_V, 2)
    agreement_V = np.where(enough_V, agreement(sums.sums_VD, safe_V), 0.0)
    deviation_V = chance.deviation(safe_V)
    above_V = agreement_V - chance.mean
    # Half of the words agree more than the typical one; that is what pictures of a word are like.
    typical = float(np.median(above_V[enough_V])) if enough_V.any() else 0.0
    scale = max(typical, 1e-9)
    doubt_V = _DEVIATIONS * deviation_V
    ratio_V = (above_V + doubt_V) / scale
    explains_V = enough_V & (above_V - doubt_V > _EXPLAINS * scale)
    noise_V = np.where(enough_V & ~explains_V, 1 - np.clip(ratio_V, 0, 1), 0.0)
    similarity_V = None
    if embed_text is not None and enough_V.any():
        similarity_V = _similarity(sums, chance, enough_V, embed_text, names)
        usual = max(float(np.median(similarity_V[enough_V])), 1e-9)
        noise_V = noise_V * (1 - np.clip(similarity_V / usual, 0, 1))
    return Judged(
        chance=chance,
        typical=typical + chance.mean,
        enough_V=enough_V,
        agreement_V=agreement_V,
        z_V=np.where(
            deviation_V > _LEAST_DEVIATION,
            above_V / np.maximum(deviation_V, _LEAST_DEVIATION),
            0.0,
        ),
        ratio_V=ratio_V,
        explains_V=explains_V,
        similarity_V=similarity_V,
        noise_V=noise_V,
    )


def _similarity(
    sums: Sums, chance: Chance, enough_V: np.ndarray, embed_text: EmbedText, names: list[str]
) -> np.ndarray:
    """Mean cosine of a word with its pictures less that with all pictures, from the same sums."""
    numbers = np.flatnonzero(enough_V)
    words_VD = embed_text([names[number] for number in numbers])
    means_VD = sums.sums_VD[numbers] / sums.counts_V[numbers, None]
    found = np.zeros(len(names))
    found[numbers] = ((means_VD - chance.mean_D) * words_VD).sum(axis=1)
    return found
