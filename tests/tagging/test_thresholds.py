"""The threshold of the best F1, against all thresholds there are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kmm_jax.tagging.thresholds import best_threshold


def f1_at(threshold: float, score_N: np.ndarray, true_N: np.ndarray) -> float:
    given_N = score_N >= threshold
    both = int((given_N & true_N).sum())
    return 2 * both / (int(given_N.sum()) + int(true_N.sum()))


@pytest.mark.parametrize("seed", range(40))
def test_no_threshold_does_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 30))
    true_N = rng.random(count) < 0.3
    # Few values, so that many scores are equal.
    score_N = rng.integers(0, 8, count) / 8 if seed % 2 else rng.normal(size=count)
    found, f1 = best_threshold(score_N, true_N)
    if not true_N.any():
        assert found == math.inf and f1 == 0
        return
    every = [-math.inf, *score_N, math.inf]
    assert f1 == pytest.approx(max(f1_at(one, score_N, true_N) for one in every))
    assert f1_at(found, score_N, true_N) == pytest.approx(f1)
    assert not (score_N == found).any()


def test_of_thresholds_equally_good_the_highest_is_taken() -> None:
    found, f1 = best_threshold(np.array([0.9, 0.5, 0.4, 0.1]), np.array([1, 0, 1, 0], bool))
    assert f1 == pytest.approx(0.8) and 0.1 < found < 0.4
    assert best_threshold(np.array([0.9, 0.2]), np.array([1, 0], bool))[0] == pytest.approx(0.55)


@pytest.mark.parametrize("scores", [[0.1, math.nan], [[0.1], [0.2]], [0.1]])
def test_scores_that_do_not_fit_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="scores of shape"):
        best_threshold(np.asarray(scores), np.array([True, False]))
