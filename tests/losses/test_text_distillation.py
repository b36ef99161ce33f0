"""Errors of a student's reading: what each is blind to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kmm_jax.losses.diffusion import min_snr_weights, spread_steps
from kmm_jax.losses.text_distillation import (
    ends_error,
    first_end,
    position_error,
    relative_error,
    response_error,
)


@pytest.fixture
def states() -> jax.Array:
    """(B, T, D)."""
    return jax.random.normal(jax.random.key(0), (6, 8, 4))


def test_the_same_reading_has_no_error_and_the_mean_has_one(states: jax.Array) -> None:
    mean = jnp.broadcast_to(states.mean(axis=0), states.shape)
    assert float(relative_error(states, states)) == 0
    assert float(relative_error(mean, states)) == pytest.approx(1.0, rel=1e-5)


def test_ends_see_neither_words_nor_padding_that_one_language_has_alone(states: jax.Array) -> None:
    korean_end = jnp.asarray([2, 3, 2, 4, 3, 2])
    english_end = jnp.asarray([4, 2, 3, 4, 2, 5])
    last = jnp.maximum(korean_end, english_end)
    places = jnp.arange(8)[None, :]
    # The student says at its own end what the teacher says at its end.
    at_end = jnp.take_along_axis(states, english_end[:, None, None], axis=1)
    student = jnp.where((places == korean_end[:, None])[..., None], at_end, 99.0)
    student = jnp.where((places > last[:, None])[..., None], states, student)
    assert float(ends_error(student, states, korean_end, english_end)) == pytest.approx(0, abs=1e-6)
    assert float(position_error(student, states)) > 1
    wrong = student.at[:, 7].add(1.0)
    assert float(ends_error(wrong, states, korean_end, english_end)) > 0.1


def test_the_first_of_several_end_marks_ends_a_text() -> None:
    ids = jnp.asarray([[1, 5, 9, 9, 9], [1, 9, 9, 9, 9]])
    assert first_end(ids, 9).tolist() == [2, 1]


def test_a_response_error_is_the_mean_over_layers(states: jax.Array) -> None:
    layers = [states, states * 3]
    far = [states + 1, states * 3]
    one = float(relative_error(far[0], layers[0]))
    assert float(response_error(far, layers)) == pytest.approx(one / 2, rel=1e-5)


def test_steps_of_a_batch_are_spread_over_all_noise_levels() -> None:
    steps = np.sort(np.asarray(spread_steps(jax.random.key(3), 50, 1000)))
    assert steps.min() >= 0
    assert steps.max() <= 999
    assert np.diff(steps).max() <= 21
    many = np.concatenate(
        [np.asarray(spread_steps(jax.random.key(seed), 8, 10)) for seed in range(400)]
    )
    counts = np.bincount(many, minlength=10)
    assert counts.min() > 0.8 * counts.mean()


def test_min_snr_weights_are_those_of_the_paper() -> None:
    snr = jnp.asarray([0.1, 5.0, 50.0])
    assert np.allclose(min_snr_weights(snr, gamma=5.0, prediction="epsilon"), [1, 1, 0.1])
    assert np.allclose(
        min_snr_weights(snr, gamma=5.0, prediction="v_prediction"), [0.1 / 1.1, 5 / 6, 5 / 51]
    )
    assert np.allclose(min_snr_weights(snr, gamma=5.0, prediction="sample"), [0.1, 5, 5])
