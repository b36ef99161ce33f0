"""F1 against scikit-learn, intervals against resampling by hand, and the table."""

from __future__ import annotations

import numpy as np
import pytest

from kmm_jax.tagging.fit import FitConfig, fit_tagger
from kmm_jax.tagging.score import f1, macro_f1, rarest_third, score_tagger
from tests.tagging.made import labels, rows


def test_f1_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="it is in the extra analysis")
    rng = np.random.default_rng(0)
    true_NC, given_NC = rng.random((80, 5)) < 0.3, rng.random((80, 5)) < 0.4
    true_NC[:, 4] = given_NC[:, 4] = False
    expected = metrics.f1_score(true_NC, given_NC, average=None, zero_division=0.0)
    np.testing.assert_allclose(f1(true_NC, given_NC), expected)
    # Drawn with replacement: the same as those rows, one after the other.
    drawn = rng.integers(80, size=80)
    times = np.bincount(drawn, minlength=80).astype(float)
    again = metrics.f1_score(true_NC[drawn], given_NC[drawn], average=None, zero_division=0.0)
    np.testing.assert_allclose(f1(true_NC, given_NC, times_N=times), again)
    some = macro_f1(true_NC, given_NC, [0, 2])
    np.testing.assert_allclose(some(times[None]), [again[[0, 2]].mean()])


def test_the_rarest_third_is_rounded_down_and_never_empty() -> None:
    counts = np.array([5, 1, 9, 1, 7, 3, 8])
    assert rarest_third(counts).tolist() == [1, 3]
    assert rarest_third(counts, [0, 2, 4, 6]).tolist() == [0]
    assert rarest_third(counts, [2]).tolist() == [2]


def test_a_tagger_is_scored_by_group_and_label() -> None:
    tagger = fit_tagger(rows(), labels(), model="m", config=FitConfig(steps=100, batch=128))
    scored = score_tagger(tagger, rows(200, seed=8))
    scores = {score.name: score for score in scored.table.scores}
    for name in ("color/accuracy", "color/macro_f1", "color/rarest_third/macro_f1"):
        low, high = scores[f"{name}/low"].value, scores[f"{name}/high"].value
        assert 0 < low <= scores[name].value <= high <= 1
    assert scores["color/blue/images"].value == rows(200, seed=8).true_NC[:, 2].sum()
    assert "color/purple/f1" not in scores  # it does not occur
    assert "보라색" in scored.table.protocol and "never given" in scored.table.protocol
    assert scores["color/rarest_third/macro_f1"].value == scores["color/blue/f1"].value
    assert scored.matrices["pattern"].sum() == rows(200, seed=8).known_NC[:, 4].sum()
    alone = rows(200, seed=8).true_NC[:, :4].sum(axis=1) == 1
    assert scored.matrices["color"].sum() == alone.sum()
    precision, recall = (scores[f"color/green/{x}"].value for x in ("precision", "recall"))
    assert scores["color/green/f1"].value == pytest.approx(
        2 * precision * recall / (precision + recall)
    )
