"""From which probability on a label is given: the threshold that does best on rows apart.

N rows.
"""

from __future__ import annotations

import math

import numpy as np


def best_threshold(score_N: np.ndarray, true_N: np.ndarray) -> tuple[float, float]:
    """The threshold of the highest F1, and that F1; rows from it on are answered with yes.

    It lies midway between two scores that differ, so that rounding decides nothing. Of thresholds
    equally good the highest is taken; where nothing is true, infinity: never.

    Raises:
        ValueError: not as many truths as scores, or a score that is no number.
    """
    score_N, true_N = np.asarray(score_N, np.float64), np.asarray(true_N, bool)
    if score_N.ndim != 1 or score_N.shape != true_N.shape or np.isnan(score_N).any():
        raise ValueError(f"scores of shape {score_N.shape} and truths of {true_N.shape}")
    if not true_N.any():
        return math.inf, 0.0
    order_N = np.argsort(-score_N, kind="stable")
    score_N, true_N = score_N[order_N], true_N[order_N]
    # A cut stands after the last row of those with the same score.
    ends = np.flatnonzero(np.append(score_N[1:] < score_N[:-1], True))
    answered = ends + 1.0
    f1 = 2 * np.cumsum(true_N)[ends] / (answered + true_N.sum())
    best = int(np.argmax(f1))
    lowest = score_N[ends[best]]
    below = score_N[ends[best] + 1] if ends[best] + 1 < len(score_N) else lowest - 2e-6
    return float((lowest + below) / 2), float(f1[best])
