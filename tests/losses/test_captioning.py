"""The captioning loss against a hand-written loop: which label belongs to which position."""

import jax
import jax.numpy as jnp
import numpy as np

from kmm_jax.losses.captioning import captioning_loss, captioning_mean, captioning_sums

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


def test_only_the_tokens_of_an_answer_count_where_they_are_marked():
    ids = np.array([[1, 5, 9, 8, 4, 7, 2, 0], [1, 5, 7, 4, 9, 9, 2, 0]])
    only = np.array([[0, 0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1, 0]], bool)

    def loss(logits):
        sums = captioning_sums(logits, jnp.asarray(ids), never=NEVER, only_BT=jnp.asarray(only))
        return captioning_mean(sums)[0]

    logits = np.random.default_rng(0).normal(size=(2, 8, 12)).astype(np.float32)
    log_p = np.asarray(jax.nn.log_softmax(logits))
    places = [(0, 5), (0, 6), (1, 4), (1, 5), (1, 6)]
    expected = -np.mean([log_p[row, t - 1, ids[row, t]] for row, t in places])
    np.testing.assert_allclose(loss(logits), expected, rtol=1e-6)
    touched = np.abs(np.asarray(jax.grad(loss)(jnp.asarray(logits)))).sum(axis=-1) > 0
    np.testing.assert_array_equal(np.argwhere(touched), [(row, t - 1) for row, t in places])
