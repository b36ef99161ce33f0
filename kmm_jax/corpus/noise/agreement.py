"""How much the pictures of a word agree, and how much a random set of as many would.

Letters: V words, N pictures, D dimensions, K sampled pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SAMPLE = 4096


@dataclass(frozen=True, kw_only=True)
class Chance:
    """Pairwise cosines of random sets of a corpus's pictures.

    Attributes:
        pictures: of the corpus.
        mean: the mean cosine of two of them.
        mean_D: the mean of their unit vectors.
        one: variance, over pictures, of the mean cosine with the others (zeta 1).
        two: variance, over pairs, of the cosine (zeta 2).
        covariance_DD: of the unit vectors.
    """

    pictures: int
    mean: float
    mean_D: np.ndarray
    one: float
    two: float
    covariance_DD: np.ndarray

    def deviation(self, sizes: np.ndarray) -> np.ndarray:
        """Standard deviation of the mean pairwise cosine of a random set of each size (>= 2).

        The mean is a U-statistic of degree two (Hoeffding 1948, eq. 5.13), drawn without putting
        back.
        """
        n = np.asarray(sizes, np.float64)
        variance = 2 / (n * (n - 1)) * (2 * (n - 2) * self.one + self.two)
        left = np.maximum(self.pictures - n, 0) / max(self.pictures - 1, 1)
        return np.sqrt(variance * left)


def agreement(sums_VD: np.ndarray, counts_V: np.ndarray) -> np.ndarray:
    """Mean pairwise cosine (V,) of sets of unit vectors, from their sums: no pair is looked at.

    ||sum||^2 counts every pair twice and every vector with itself, which gives 1.
    """
    counts = np.asarray(counts_V, np.float64)
    return ((sums_VD**2).sum(axis=1) - counts) / (counts * (counts - 1))


class Sums:
    """Sums of unit vectors by word and over all pictures, with an even sample of pictures."""

    def __init__(self, words: int, dim: int) -> None:
        self.sums_VD = np.zeros((words, dim))
        self.counts_V = np.zeros(words, np.int64)
        self.pictures = 0
        self._total_D = np.zeros(dim)
        self._digests = np.zeros(0, np.uint64)
        self._sample_KD = np.zeros((0, dim), np.float32)

    def add_pictures(self, digests: np.ndarray, vectors_ND: np.ndarray) -> None:
        """Pictures met for the first time; those with the lowest digests are the sample."""
        self.pictures += len(digests)
        self._total_D += vectors_ND.sum(axis=0, dtype=np.float64)
        both = np.concatenate([self._digests, digests])
        vectors = np.concatenate([self._sample_KD, vectors_ND])
        kept = np.argsort(both, kind="stable")[:_SAMPLE]
        self._digests, self._sample_KD = both[kept], vectors[kept]

    def add_words(self, words: list[list[int]], vectors_ND: np.ndarray) -> None:
        """Words of each picture, no word twice."""
        flat = np.array([word for some in words for word in some], np.int64)
        if not len(flat):
            return
        rows = np.repeat(np.arange(len(words)), [len(some) for some in words])
        met, places = np.unique(flat, return_inverse=True)
        # One product for the batch: adding row by row takes many times as long.
        holds = np.zeros((len(met), len(words)), np.float32)
        holds[places, rows] = 1
        self.sums_VD[met] += holds @ vectors_ND
        self.counts_V[met] += np.bincount(places)

    def chance(self) -> Chance:
        """What random sets of these pictures are like; needs two of them."""
        n = self.pictures
        mean_D = self._total_D / n
        mean = float((self._total_D @ self._total_D - n) / (n * (n - 1)))
        sample_KD = self._sample_KD.astype(np.float64)
        cosines_KK = sample_KD @ sample_KD.T
        pairs = cosines_KK[~np.eye(len(cosines_KK), dtype=bool)]
        # A picture's mean cosine with the others, not with itself.
        with_others_K = (n * (sample_KD @ mean_D) - 1) / (n - 1)
        return Chance(
            pictures=n,
            mean=mean,
            mean_D=mean_D,
            one=float(with_others_K.var()),
            two=float(((pairs - mean) ** 2).mean()),
            covariance_DD=np.cov(sample_KD.T, bias=True).reshape(len(mean_D), -1),
        )
