"""Intervals against scipy's bootstrap, theory, and a cover rate counted by simulation."""

import numpy as np
import pytest
import scipy.stats

from kmm_jax.evaluation.bootstrap import intervals, mean_intervals, share_intervals


def test_a_share_has_the_interval_of_scipy_and_of_theory():
    hits = np.random.default_rng(0).random((400, 2)) < (0.3, 0.8)
    found = share_intervals(hits)
    for column in range(2):
        theirs = scipy.stats.bootstrap(
            (hits[:, column].astype(float),),
            np.mean,
            n_resamples=2000,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        share = hits[:, column].mean()
        spread = 1.96 * np.sqrt(share * (1 - share) / len(hits))
        assert np.allclose(found[column], theirs, atol=0.006)
        assert np.allclose(found[column], (share - spread, share + spread), atol=0.006)


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        low, high = mean_intervals(rng.normal(1.0, 2.0, (60, 1)), resamples=300)[0]
        held += low <= 1.0 <= high
    assert 0.90 <= held / 200 <= 0.985


def test_items_of_one_group_are_no_more_evidence_than_the_group():
    rng = np.random.default_rng(3)
    of_group = rng.random(80) < 0.5
    hits, groups = np.repeat(of_group, 5)[:, None], np.repeat(np.arange(80), 5)
    alone = share_intervals(of_group[:, None])[0]
    together = share_intervals(hits, groups_N=groups)[0]
    apart = share_intervals(hits)[0]
    assert np.allclose(together, alone, atol=0.02)
    assert np.ptp(apart) < 0.6 * np.ptp(together)


@pytest.mark.parametrize("right", [True, False])
def test_all_or_none_right_is_no_certainty(right):
    low, high = share_intervals(np.full((50, 1), right))[0]
    assert (low, high) == pytest.approx((0.9289, 1.0) if right else (0.0, 0.0711), abs=1e-3)


def test_a_rank_correlation_has_the_interval_of_fishers_transformation():
    rng = np.random.default_rng(4)
    one = rng.normal(size=500)
    other = 0.6 * one + 0.8 * rng.normal(size=500)
    low, high = intervals(lambda rows: np.corrcoef(one[rows], other[rows])[0, 1], 500)
    centre = np.arctanh(np.corrcoef(one, other)[0, 1])
    fisher = np.tanh([centre - 1.96 / np.sqrt(497), centre + 1.96 / np.sqrt(497)])
    assert np.allclose((low, high), fisher, atol=0.015)


def test_nothing_has_no_interval():
    with pytest.raises(ValueError, match="at least one item"):
        mean_intervals(np.zeros((0, 1)))
    with pytest.raises(ValueError, match="3 items, but 2 groups"):
        mean_intervals(np.zeros((3, 1)), groups_N=np.zeros(2))
