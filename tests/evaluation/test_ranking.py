"""Ranking scores against scikit-learn's and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kmm_jax.evaluation.ranking import ndcg, ranking_scores, reciprocal_rank


def test_ndcg_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        grades = rng.integers(0, 4, 30)
        grades[0] = 2
        scores = rng.standard_normal(30)
        ranking = [str(row) for row in np.argsort(-scores)]
        judged = {str(row): float(grade) for row, grade in enumerate(grades) if grade}
        expected = metrics.ndcg_score([2.0**grades - 1], [scores], k=10)
        assert ndcg(ranking, judged) == pytest.approx(expected)


def test_the_ideal_ranking_has_1_and_repeats_count_once() -> None:
    judged = {"a": 3.0, "b": 1.0}
    assert ndcg(["a", "b", "c"], judged) == 1.0
    assert ndcg(["a", "a", "b"], judged) == 1.0
    assert ndcg([], judged) == 0.0
    assert ndcg(["c", "a"], {"a": 1.0}) == pytest.approx(1 / np.log2(3))
    assert reciprocal_rank(["c", "c", "b", "a"], judged) == 1 / 2
    assert reciprocal_rank(["c", "b", "a"], judged, least=2) == 1 / 3
    assert reciprocal_rank(["c"], judged) == 0.0


def test_each_query_has_its_scores() -> None:
    scores = ranking_scores({"빨간 셔츠": ["1", "2"]}, {"빨간 셔츠": {"2": 1}, "모자": {"9": 2}})
    np.testing.assert_allclose(scores["mrr"], [0.5, 0.0])
    np.testing.assert_allclose(scores["ndcg@10"], [1 / np.log2(3), 0.0])
    with pytest.raises(ValueError, match="'x': nothing is judged relevant"):
        ranking_scores({}, {"x": {"1": 0.0}})
    with pytest.raises(ValueError, match="no query"):
        ranking_scores({}, {})
