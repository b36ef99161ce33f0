import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.training.duration import Scale
from kmm_jax.training.optimizer import Adafactor, AdamW, build, decayed, learning_rate

SCALE = Scale(global_batch_size=1, examples_per_epoch=1, total_steps=100)


def _rates(**fields):
    schedule = learning_rate(AdamW(learning_rate=1.0, warmup="10 steps", **fields), SCALE)
    return np.array([schedule(step) for step in range(100)])


def test_warm_up_is_a_line_to_the_peak():
    np.testing.assert_allclose(_rates()[:10], np.arange(1, 11) / 10, rtol=1e-6)


def test_linear_decay_is_a_line_to_the_end():
    rates = _rates(decay="linear", final_fraction=0.1)
    expected = 0.1 + 0.9 * (1 - np.arange(90) / 90)
    np.testing.assert_allclose(rates[10:], expected, rtol=1e-5)


def test_cosine_decay_is_half_a_cosine():
    rates = _rates(decay="cosine")
    np.testing.assert_allclose(rates[10:], (1 + np.cos(np.pi * np.arange(90) / 90)) / 2, atol=1e-6)


def test_constant_stays():
    assert (_rates(decay="constant")[9:] == 1).all()


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ConfigError, match="101 steps, more than the whole run's 100"):
        learning_rate(AdamW(warmup="101"), SCALE)


PARAMS = {
    "layers": {"up": {"kernel": np.ones((2, 4, 4)), "bias": np.ones((2, 4))}},
    "norm": {"scale": np.ones(4)},
    "log_scale": np.ones(()),
}


def test_weight_decay_is_for_matrices_alone_also_in_stacked_layers():
    assert decayed(PARAMS, AdamW()) == {
        "layers": {"up": {"kernel": True, "bias": False}},
        "norm": {"scale": False},
        "log_scale": False,
    }


def _updates(config, gradients, steps=3):
    transformation = build(config, SCALE)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = transformation.init(params)
    for _ in range(steps):
        changes, state = transformation.update(gradients, state, params)
        params = optax.apply_updates(params, changes)
    return params


def test_adamw_equals_the_formula():
    config = AdamW(
        learning_rate=0.1, warmup="0", decay="constant", weight_decay=0.2, clip_norm=None
    )
    params = _updates(config, jax.tree.map(lambda p: 0.3 * jnp.ones(p.shape), PARAMS))
    kernel, bias, m, v = 1.0, 1.0, 0.0, 0.0
    for t in range(1, 4):
        m, v = 0.9 * m + 0.1 * 0.3, 0.98 * v + 0.02 * 0.09
        direction = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.98**t)) + 1e-8)
        kernel -= 0.1 * (direction + 0.2 * kernel)
        bias -= 0.1 * direction
    np.testing.assert_allclose(params["layers"]["up"]["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(params["layers"]["up"]["bias"], bias, rtol=1e-5)


def test_clipping_bounds_the_global_norm():
    gradients = jax.tree.map(lambda p: 100.0 * jnp.ones(p.shape), PARAMS)
    direction, _ = build(AdamW(clip_norm=1.0), SCALE).update(
        gradients, build(AdamW(clip_norm=1.0), SCALE).init(PARAMS), PARAMS
    )
    small, _ = build(AdamW(clip_norm=1.0), SCALE).update(
        jax.tree.map(lambda g: g * 10, gradients), build(AdamW(), SCALE).init(PARAMS), PARAMS
    )
    jax.tree.map(np.testing.assert_allclose, direction, small)


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_adafactor_brings_a_loss_down(momentum):
    config = Adafactor(learning_rate=0.1, momentum=momentum, min_factored_size=2)
    target = jax.tree.map(jnp.zeros_like, PARAMS)
    transformation = build(config, SCALE)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = transformation.init(params)

    def loss(params):
        pairs = jax.tree.leaves(jax.tree.map(lambda p, t: jnp.sum((p - t) ** 2), params, target))
        return sum(pairs)

    @jax.jit
    def step(params, state):
        changes, state = transformation.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, changes), state

    before = loss(params)
    for _ in range(30):
        params, state = step(params, state)
    assert loss(params) < 0.01 * before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"final_fraction": 2.0}, "final_fraction"),
        ({"warmup": "long"}, "no duration"),
        ({"no_weight_decay": "("}, "no regex"),
    ],
)
def test_a_wrong_setting_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        AdamW(**fields)
