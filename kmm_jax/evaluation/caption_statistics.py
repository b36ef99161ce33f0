"""Sufficient statistics of caption metrics: a corpus's score, or a resample's, from sums alone.

Letters: N captions, R resamples of them, S statistics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Tokens = Sequence[str]
"""A text cut into what a metric counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """What one metric counts in each caption, and what it makes of the counts of many.

    Every metric here is a function of sums over captions, so that a resample, in which a caption
    occurs several times or never, costs one product of matrices and no second look at a text.

    Attributes:
        values_NS: the statistics of each caption, float64.
        score_of: sums of statistics (R, S) to scores (R,); 0 where nothing was counted.
    """

    values_NS: np.ndarray
    score_of: Callable[[np.ndarray], np.ndarray]

    def corpus(self) -> float:
        """The score of all captions together."""
        return float(self.score_of(self.values_NS.sum(axis=0)[None])[0])

    def captions(self) -> np.ndarray:
        """The score of each caption alone, (N,) float64. Of BLEU and chrF no mean of them."""
        return self.score_of(self.values_NS)

    def resampled(self, times_RN: np.ndarray) -> np.ndarray:
        """The score of each resample, (R,) float64.

        Args:
            times_RN: how often each caption occurs in each resample; for a bootstrap the rows of
                ``rng.multinomial(N, [1 / N] * N, size=R)``.
        """
        return self.score_of(np.asarray(times_RN, np.float64) @ self.values_NS)


def mean_of(scores: Sequence[float] | np.ndarray) -> Statistics:
    """A metric whose corpus score is the mean of its captions' scores."""
    scores_N = np.asarray(scores, np.float64)
    return Statistics(values_NS=np.stack([scores_N, np.ones_like(scores_N)], 1), score_of=_mean)


def _mean(sums_RS: np.ndarray) -> np.ndarray:
    total_R, count_R = sums_RS.T
    return total_R / np.maximum(count_R, 1)
