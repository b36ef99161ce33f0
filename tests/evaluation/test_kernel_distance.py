"""The kernel distance against its definition, summed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kmm_jax.evaluation.kernel_distance import kernel_distance


def test_it_is_the_unbiased_estimate_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 0.5

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within_one = [kernel(x, y) for i, x in enumerate(one) for j, y in enumerate(one) if i != j]
    within_other = [
        kernel(x, y) for i, x in enumerate(other) for j, y in enumerate(other) if i != j
    ]
    between = [kernel(x, y) for x in one for y in other]
    expected = np.mean(within_one) + np.mean(within_other) - 2 * np.mean(between)
    assert kernel_distance(one, other) == pytest.approx(expected)


def test_it_tells_distributions_apart_and_not_draws_of_one() -> None:
    rng = np.random.default_rng(1)
    same = kernel_distance(rng.normal(size=(800, 4)), rng.normal(size=(800, 4)))
    apart = kernel_distance(rng.normal(size=(800, 4)), rng.normal(size=(800, 4)) + 1)
    assert abs(same) < 0.05 < 1 < apart


def test_too_few_rows_or_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two rows over the same features"):
        kernel_distance(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="the same features"):
        kernel_distance(np.zeros((3, 3)), np.zeros((4, 2)))
