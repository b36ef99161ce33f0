"""The probability that a score stands for (Platt 1999); fitted in ``evaluation.calibration``."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Platt:
    """The probability of a score s is 1 / (1 + exp(-(slope s + offset)))."""

    slope: float
    offset: float

    def probability(self, score_N: np.ndarray) -> np.ndarray:
        """(N,) of (N,)."""
        logit_N = np.clip(self.slope * np.asarray(score_N, np.float64) + self.offset, -500, 500)
        return 1.0 / (1.0 + np.exp(-logit_N))
