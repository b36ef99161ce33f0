"""Floors against all floors that there are, and against what they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.evaluation.floor import calibrate

ITEMS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(ITEMS, st.floats(0, 0.99))
def test_no_lower_floor_would_do(items: list[tuple[int, bool]], most_bad: float) -> None:
    similarity = np.asarray([each / 12 for each, _ in items])
    bad = np.asarray([each for _, each in items])
    found = calibrate(similarity, bad, most_bad=most_bad)
    good = [
        floor for floor in set(similarity.tolist()) if bad[similarity >= floor].mean() <= most_bad
    ]
    assert found.value == min(good, default=math.inf)
    shown = similarity >= found.value
    assert (found.shown, found.bad) == (shown.sum(), bad[shown].sum())
    assert found.bad_share <= most_bad


def test_a_floor_that_is_sure_keeps_its_promise_for_new_items() -> None:
    """With probability 0.9 at least; bad ones grow rarer with similarity, as 0.5 * (1 - s)^2."""
    rng = np.random.default_rng(0)
    broken, shown, trials = 0, 0, 300
    for _ in range(trials):
        similarity = rng.uniform(size=300)
        bad = rng.uniform(size=300) < 0.5 * (1 - similarity) ** 2
        floor = calibrate(similarity, bad, most_bad=0.08, sure=0.9).value
        if math.isfinite(floor):
            shown += 1
            # The mean of 0.5 * (1 - s)^2 for s uniform from the floor to 1.
            broken += (1 - floor) ** 2 / 6 > 0.08
    assert shown > trials / 2
    assert broken / trials <= 0.1


def test_a_floor_that_is_sure_needs_enough_labels_and_is_never_lower() -> None:
    good = np.zeros(200, bool)
    similarity = np.linspace(0, 1, 200)
    assert calibrate(similarity, good, most_bad=0.05, sure=0.95).value == 0
    few = calibrate(similarity[:60], good[:60], most_bad=0.05, sure=0.95)
    assert few.value == math.inf and few.shown == 0 and few.bad_share == 0 and few.limit == 1
    bad = np.random.default_rng(1).uniform(size=200) < 0.1
    sure = calibrate(similarity, bad, most_bad=0.2, sure=0.95)
    assert sure.value >= calibrate(similarity, bad, most_bad=0.2).value


def test_the_limit_is_the_exact_one() -> None:
    """None bad of 59 is the smallest number that shows a share below 5 % with 95 % certainty."""
    many = calibrate(np.ones(59), np.zeros(59), most_bad=0.0)
    assert many.shown == 59 and many.limit < 0.05
    assert calibrate(np.ones(58), np.zeros(58), most_bad=0.0).limit > 0.05


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"most_bad": 1.0}, ConfigError),
        ({"most_bad": float("nan")}, ConfigError),
        ({"sure": 1.0}, ConfigError),
        ({"similarity_N": np.zeros(0), "bad_N": np.zeros(0)}, DataError),
        ({"similarity_N": np.zeros(3)}, DataError),
        ({"similarity_N": np.asarray([0.1, np.nan])}, DataError),
    ],
)
def test_what_cannot_be_calibrated_is_said(change: dict[str, Any], error: type[Exception]) -> None:
    given = {"similarity_N": np.zeros(2), "bad_N": np.zeros(2), "most_bad": 0.1}
    with pytest.raises(error):
        calibrate(**{**given, **change})
