"""Zero-shot judgements against the softmax written out."""

from __future__ import annotations

import numpy as np
import pytest

from kmm_jax.inference.descriptions import goodness, probability


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.normal(size=(count, 5))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_probabilities_are_shares_of_the_softmax() -> None:
    rng = np.random.default_rng(0)
    images, texts = unit(rng, 4), unit(rng, 3)
    found = probability(images, texts, 2, scale=7.0)
    for image, value in zip(images, found, strict=True):
        weights = [np.exp(7 * float(image @ text)) for text in texts]
        assert value == pytest.approx((weights[0] + weights[1]) / sum(weights))
    assert probability(images, texts, 3) == pytest.approx(np.ones(4))


def test_goodness_is_a_half_where_nothing_tells_and_turns_with_the_opposites() -> None:
    rng = np.random.default_rng(1)
    images, good, bad = unit(rng, 4), unit(rng, 3), unit(rng, 3)
    found = goodness(images, good, bad, scale=3.0)
    sigmoid = 1 / (1 + np.exp(-3 * (images @ (good - bad).T)))
    np.testing.assert_allclose(found, sigmoid.mean(axis=1))
    np.testing.assert_allclose(goodness(images, bad, good, scale=3.0), 1 - found)
    np.testing.assert_allclose(goodness(images, good, good), 0.5)
