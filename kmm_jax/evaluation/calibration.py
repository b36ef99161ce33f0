"""From scores to probabilities, and how far those can be believed.

Platt scaling: a logistic regression on one score (Platt 1999, with his targets). Its error is
measured by the expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3).
"""

from __future__ import annotations

import numpy as np

from kmm_jax.inference.platt import Platt

_STEPS = 100
_LEAST_STEP = 1e-10


def fit_platt(score_N: np.ndarray, true_N: np.ndarray) -> Platt:
    """The logistic regression of what is true on its score, by Newton's method.

    As targets Platt's, which are a little inside 0 and 1, so that few or separable scores do not
    make a slope without end. A slope is never below 0: a higher score is never less probable.

    Raises:
        ValueError: no score, or not as many truths.
    """
    score_N, true_N = np.asarray(score_N, np.float64), np.asarray(true_N, bool)
    if len(score_N) == 0 or score_N.shape != true_N.shape:
        raise ValueError(f"scores of shape {score_N.shape} and truths of {true_N.shape}")
    positive, negative = int(true_N.sum()), int((~true_N).sum())
    target_N = np.where(true_N, (positive + 1) / (positive + 2), 1 / (negative + 2))
    prior = np.log((positive + 1) / (negative + 1))
    centre, spread = score_N.mean(), score_N.std()
    if spread == 0:
        return Platt(slope=0.0, offset=float(prior))
    z_N = (score_N - centre) / spread
    slope, offset = 0.0, float(prior)

    def loss(slope: float, offset: float) -> float:
        logit_N = slope * z_N + offset
        return float(np.sum(np.logaddexp(0, logit_N) - target_N * logit_N))

    for _ in range(_STEPS):
        p_N = 1.0 / (1.0 + np.exp(-(slope * z_N + offset)))
        weight_N, error_N = p_N * (1 - p_N) + 1e-12, p_N - target_N
        gradient = np.array([error_N @ z_N, error_N.sum()])
        hessian = np.array(
            [[weight_N @ z_N**2, weight_N @ z_N], [weight_N @ z_N, weight_N.sum()]]
        ) + 1e-9 * np.eye(2)
        move = np.linalg.solve(hessian, gradient)
        size, before = 1.0, loss(slope, offset)
        while size > _LEAST_STEP and loss(slope - size * move[0], offset - size * move[1]) > before:
            size /= 2
        slope, offset = slope - size * float(move[0]), offset - size * float(move[1])
        if size * np.abs(move).max() < 1e-9 or size <= _LEAST_STEP:
            break
    if slope <= 0:
        return Platt(slope=0.0, offset=float(np.log(target_N.mean() / (1 - target_N.mean()))))
    return Platt(slope=slope / spread, offset=offset - slope * centre / spread)


def expected_calibration_error(
    probability_N: np.ndarray, true_N: np.ndarray, *, bins: int = 15
) -> float:
    """The mean distance of what was said from what was true, over bins of equal width.

    Raises:
        ValueError: no probability, not as many truths, or one outside [0, 1].
    """
    probability_N, true_N = np.asarray(probability_N, np.float64), np.asarray(true_N, bool)
    if len(probability_N) == 0 or probability_N.shape != true_N.shape:
        raise ValueError(f"{probability_N.shape} probabilities and {true_N.shape} truths")
    if probability_N.min() < 0 or probability_N.max() > 1:
        raise ValueError("probabilities must be in [0, 1]")
    bin_N = np.minimum((probability_N * bins).astype(int), bins - 1)
    said = np.bincount(bin_N, probability_N, minlength=bins)
    was = np.bincount(bin_N, true_N.astype(np.float64), minlength=bins)
    return float(np.abs(said - was).sum() / len(probability_N))
