"""The captioning loss against a hand-written loop: which label belongs to which position."""

import jax
import jax.numpy as jnp
import numpy as np

from kmm_jax.losses.captioning import captioning_loss

NEVER = (0, 4, 5, 6)  # [PAD] and the style tokens
#                 [BOS] [QUERY]  text   [EOS] [PAD]
IDS = np.array([[1, 5, 9, 8, 7, 2, 0, 0], [1, 5, 7, 2, 0, 0, 0, 0]])


def test_loss_is_minus_log_p_of_the_next_token_style_and_padding_left_out():
    logits = np.random.default_rng(0).normal(size=(2, 8, 12)).astype(np.float32)
    total, count = 0.0, 0
    for row in range(2):
        for t in range(8 - 1):
            label = IDS[row, t + 1]  # the logits after token t predict token t + 1
            if label in NEVER:
                continue
            p = np.exp(logits[row, t].astype(np.float64))
            total -= np.log(p[label] / p.sum())
            count += 1
    assert count == 4 + 2  # text and [EOS], never [QUERY]
    loss, _ = captioning_loss(jnp.asarray(logits), jnp.asarray(IDS), never=NEVER)
    np.testing.assert_allclose(loss, total / count, rtol=1e-6)


def test_logits_that_foresee_the_next_token_are_free_and_unshifted_ones_are_not():
    foresight = 50.0 * jax.nn.one_hot(np.roll(IDS, -1, axis=1), 12)
    loss, metrics = captioning_loss(foresight, jnp.asarray(IDS), never=NEVER)
    assert loss < 1e-3
    assert metrics["token_accuracy"] == 1
    echo = 50.0 * jax.nn.one_hot(IDS, 12)
    loss, metrics = captioning_loss(echo, jnp.asarray(IDS), never=NEVER)
    assert loss > 10
    assert metrics["token_accuracy"] == 0


def test_no_gradient_reaches_logits_that_predict_style_or_padding():
    gradient = jax.grad(lambda x: captioning_loss(x, jnp.asarray(IDS), never=NEVER)[0])(
        jnp.zeros((2, 8, 12))
    )
    touched = np.abs(np.asarray(gradient)).sum(axis=-1) > 0
    expected = np.zeros((2, 8), bool)
    expected[0, 1:5] = True
    expected[1, 1:3] = True
    np.testing.assert_array_equal(touched, expected)


def test_a_batch_without_targets_costs_nothing():
    ids = np.array([[1, 5, 0, 0]])
    loss, _ = captioning_loss(jnp.ones((1, 4, 12)), jnp.asarray(ids), never=NEVER)
    assert loss == 0
