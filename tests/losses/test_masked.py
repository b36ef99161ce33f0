"""The masked losses against loops over the masked places."""

import jax
import jax.numpy as jnp
import numpy as np

from kmm_jax.losses.masked import masked_pixels, masked_words


def test_pixels_are_compared_with_each_masked_patch_made_of_mean_0_and_deviation_1():
    rng = np.random.default_rng(0)
    predicted, pixels = rng.normal(size=(2, 3, 4, 12))
    masked = rng.random((3, 4)) < 0.5
    expected = [
        np.mean((p - (t - t.mean()) / t.std()) ** 2)
        for p, t, m in zip(
            predicted.reshape(12, 12), pixels.reshape(12, 12), masked.ravel(), strict=True
        )
        if m
    ]
    found = masked_pixels(*map(jnp.asarray, (predicted, pixels, masked)))
    np.testing.assert_allclose(found.mean, np.mean(expected), rtol=1e-4)
    assert found.places == masked.sum()


def test_words_lose_their_cross_entropy_at_the_masked_places_only():
    rng = np.random.default_rng(1)
    vectors, matrix, ids = (
        rng.normal(size=(2, 5, 3)),
        rng.normal(size=(3, 7)),
        rng.integers(0, 7, (2, 5)),
    )
    masked = np.zeros((2, 5), bool)
    masked[0, 1] = masked[1, 4] = True
    logits = vectors @ matrix
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log([probability[0, 1, ids[0, 1]], probability[1, 4, ids[1, 4]]]).sum()
    found = masked_words(
        jnp.asarray(vectors), lambda x_BD: x_BD @ matrix, jnp.asarray(ids), jnp.asarray(masked)
    )
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5)
    assert found.places == 2


def test_the_gradient_of_masked_words_never_holds_the_logits_of_two_positions():
    rows, positions, width, vocabulary = 4, 64, 8, 1000

    def loss(vectors, matrix):
        ids = jnp.zeros((rows, positions), int)
        return masked_words(vectors, lambda x_BD: x_BD @ matrix, ids, ids == 0).mean

    shapes = ((rows, positions, width), (width, vocabulary))
    compiled = (
        jax.jit(jax.grad(loss)).lower(*(jax.ShapeDtypeStruct(one, float) for one in shapes))
    ).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < rows * positions * vocabulary * 4 / 4


def test_nothing_masked_loses_nothing():
    none = masked_words(
        jnp.zeros((1, 2, 3)),
        lambda x_BD: x_BD,
        jnp.zeros((1, 2), int),
        jnp.zeros((1, 2), bool),
    )
    assert none.mean == 0
