"""The noise schedule against diffusers' tables and its own definitions."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.models.diffusion.noise_schedule import (
    NoiseSchedule,
    add_noise,
    snr,
    target,
    velocity,
)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "trained"])
def test_the_table_is_that_of_diffusers(schedule: str, rescale: bool) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is a reference, not installed")
    pytest.importorskip("torch", reason="torch is a reference, not installed")
    ours: dict[str, Any] = {"beta_schedule": schedule}
    theirs: dict[str, Any] = {"beta_schedule": schedule}
    if schedule == "trained":
        betas = np.linspace(0.001, 0.02, 1000) ** 1.1
        ours, theirs = {"trained_betas": tuple(betas)}, {"trained_betas": list(betas)}
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=rescale, **theirs
    )
    alphas_T = NoiseSchedule(rescale_zero_snr=rescale, **ours).alphas_cumprod()
    assert alphas_T.dtype == np.float64
    # diffusers multiplies a thousand float32 numbers.
    np.testing.assert_allclose(alphas_T, scheduler.alphas_cumprod.numpy(), rtol=1e-4, atol=1e-9)


def test_zero_terminal_snr_keeps_the_first_step_and_ends_in_pure_noise() -> None:
    plain, rescaled = NoiseSchedule(), NoiseSchedule(rescale_zero_snr=True)
    assert rescaled.alphas_cumprod()[0] == pytest.approx(plain.alphas_cumprod()[0])
    assert rescaled.signal()[-1] == 0
    assert rescaled.sigma()[-1] == 1


def test_noise_velocity_and_snr_by_their_definitions() -> None:
    schedule = NoiseSchedule(prediction="v_prediction")
    random = np.random.default_rng(0)
    x, noise = random.standard_normal((2, 3, 4, 5)), random.standard_normal((2, 3, 4, 5))
    t_B = jnp.asarray([0, 999, 400])[:2]
    signal, sigma = (
        table[np.asarray(t_B)].reshape(2, 1, 1, 1)
        for table in (schedule.signal(), schedule.sigma())
    )
    arguments = (schedule, jnp.asarray(x), jnp.asarray(noise), t_B)
    noisy, v = add_noise(*arguments), velocity(*arguments)
    np.testing.assert_allclose(noisy, signal * x + sigma * noise, atol=1e-6)
    # From the noisy sample and the velocity both parts come back.
    np.testing.assert_allclose(signal * noisy - sigma * v, x, atol=1e-5)
    np.testing.assert_allclose(sigma * noisy + signal * v, noise, atol=1e-5)
    np.testing.assert_allclose(snr(schedule, t_B), (signal / sigma).ravel() ** 2, rtol=1e-5)
    assert noisy.dtype == v.dtype == jnp.float32


def test_the_target_is_what_the_network_predicts() -> None:
    x, noise, t_B = jnp.ones((2, 3)), jnp.full((2, 3), 2.0), jnp.asarray([10, 500])
    targets = {
        name: target(NoiseSchedule(prediction=name), x, noise, t_B)
        for name in ("epsilon", "sample", "v_prediction")
    }
    np.testing.assert_array_equal(targets["epsilon"], noise)
    np.testing.assert_array_equal(targets["sample"], x)
    np.testing.assert_array_equal(targets["v_prediction"], velocity(NoiseSchedule(), x, noise, t_B))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beta_schedule": "scaled_linar"}, "did you mean 'scaled_linear'"),
        ({"prediction": "v"}, "prediction is 'v'"),
        ({"training_steps": 1}, "at least 2"),
        ({"trained_betas": (0.1,)}, "1 variances for 1000"),
        ({"beta_start": 0.0}, "between 0 and 1"),
    ],
)
def test_a_schedule_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NoiseSchedule(**fields)
