"""Weighted kappa against scikit-learn's, and where it is not defined."""

from __future__ import annotations

import numpy as np
import pytest

from kmm_jax.evaluation.weighted_kappa import agreements, weighted_kappa


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_scikit_learn_finds(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="the reference is scikit-learn")
    rng = np.random.default_rng(seed)
    first = rng.integers(1, 6, size=40)
    second = np.clip(first + rng.integers(-2, 3, size=40), 1, 5)
    expected = metrics.cohen_kappa_score(first, second, labels=range(1, 6), weights="quadratic")
    assert weighted_kappa(first, second) == pytest.approx(expected)
    assert weighted_kappa(second, first) == pytest.approx(expected)


def test_agreement_and_contradiction_are_its_ends() -> None:
    assert weighted_kappa([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == 1
    assert weighted_kappa([1, 5, 1, 5], [5, 1, 5, 1]) == pytest.approx(-1)
    assert weighted_kappa([1, 5, 1, 5], [1, 1, 5, 5]) == pytest.approx(0)
    assert weighted_kappa([3, 3], [3, 3]) is None and weighted_kappa([], []) is None
    with pytest.raises(ValueError, match="2 scores of one rater, 1"):
        weighted_kappa([1, 2], [1])


def test_every_two_raters_are_compared_on_what_both_scored() -> None:
    scores = {"이": {"a": 1, "b": 5, "c": 3}, "김": {"b": 5, "a": 2}, "박": {"d": 1}}
    found = {(each.first, each.second): each for each in agreements(scores)}
    assert set(found) == {("김", "박"), ("김", "이"), ("박", "이")}
    both = found["김", "이"]
    assert (both.common, both.same) == (2, 0.5)
    assert both.kappa == pytest.approx(weighted_kappa([1, 5], [2, 5]))
    assert (
        found["김", "박"].common == 0 and found["김", "박"].kappa is found["김", "박"].same is None
    )
