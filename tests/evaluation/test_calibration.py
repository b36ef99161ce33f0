"""Platt scaling and calibration error against scikit-learn, brute force and what must hold."""

from __future__ import annotations

import numpy as np
import pytest

from kmm_jax.evaluation.calibration import expected_calibration_error, fit_platt
from kmm_jax.inference.platt import Platt


def drawn(count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose probability is known: slope 3, offset -2."""
    rng = np.random.default_rng(seed)
    score = rng.normal(0.3, 1.5, count)
    return score, rng.random(count) < 1 / (1 + np.exp(-(3 * score - 2)))


def test_it_finds_the_slope_and_offset_that_made_the_truths() -> None:
    found = fit_platt(*drawn(40_000))
    assert found.slope == pytest.approx(3, rel=0.05)
    assert found.offset == pytest.approx(-2, rel=0.05)


def test_it_is_scikit_learns_sigmoid_calibration() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    score, true = drawn(500)
    theirs = calibration._SigmoidCalibration().fit(score, true)
    points = np.linspace(-3, 3, 50)
    np.testing.assert_allclose(
        fit_platt(score, true).probability(points), theirs.predict(points), atol=1e-4
    )


def test_separable_scores_and_none_true_stay_finite() -> None:
    score = np.linspace(-1, 1, 20)
    found = fit_platt(score, score > 0)
    assert np.isfinite([found.slope, found.offset]).all()
    assert 0 < found.probability(np.array([-1.0]))[0] < 0.2 < 0.8 < found.probability(score)[-1] < 1
    none = fit_platt(score, np.zeros(20, bool))
    assert (none.probability(score) < 0.1).all()
    same = fit_platt(np.ones(10), np.arange(10) < 4)
    assert same.probability(np.ones(1))[0] == pytest.approx(5 / 12, abs=0.01)


def test_a_higher_score_is_never_less_probable() -> None:
    score, true = drawn(300)
    assert fit_platt(score, ~true).slope == 0.0
    assert fit_platt(score, ~true).probability(np.zeros(1))[0] == pytest.approx(
        (~true).mean(), abs=0.02
    )


def test_units_of_the_score_do_not_matter() -> None:
    score, true = drawn(800)
    one, other = fit_platt(score, true), fit_platt(1000 * score + 7, true)
    np.testing.assert_allclose(
        one.probability(score), other.probability(1000 * score + 7), atol=1e-6
    )


def test_the_error_is_that_of_a_loop_over_bins() -> None:
    rng = np.random.default_rng(2)
    probability, true = rng.random(500), rng.random(500) < 0.4
    expected = 0.0
    for low in range(10):
        inside = (probability >= low / 10) & (probability < (low + 1) / 10)
        if inside.any():
            gap = abs(probability[inside].mean() - true[inside].mean())
            expected += inside.mean() * gap
    assert expected_calibration_error(probability, true, bins=10) == pytest.approx(expected)
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0.0


def test_calibration_lowers_the_error_on_other_rows() -> None:
    score, true = drawn()
    other_score, other_true = drawn(seed=1)
    raw = Platt(slope=1.0, offset=0.0).probability(other_score)
    fitted = fit_platt(score, true).probability(other_score)
    assert expected_calibration_error(fitted, other_true) < 0.02
    assert expected_calibration_error(raw, other_true) > 0.1


@pytest.mark.parametrize("given", [([], []), ([1.0], [True, False])])
def test_wrong_shapes_are_refused(given: tuple[list[float], list[bool]]) -> None:
    score, true = (np.asarray(one) for one in given)
    with pytest.raises(ValueError, match="truths"):
        fit_platt(score, true)
    with pytest.raises(ValueError, match="truths"):
        expected_calibration_error(score, true)
