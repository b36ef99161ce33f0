"""What sampling is, whatever diffusers does: convergence, compilations, noise, hooks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kmm_jax.generation.schedulers.build import make_table
from kmm_jax.generation.schedulers.config import SAMPLERS, parse
from kmm_jax.generation.schedulers.sample import sample
from kmm_jax.generation.schedulers.table import Table
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule
from tests.generation.schedulers.references import SD15

MEAN, DEVIATION = 0.8, 0.3  # of the data, one Gaussian

# Even in log-SNR, so that more steps are smaller steps everywhere, as orders are defined.
_ALPHAS = 1 / (1 + np.exp(np.linspace(-6, 6, 1000)))
BETAS = 1 - _ALPHAS / np.append(1.0, _ALPHAS[:-1])
NOISE = NoiseSchedule(trained_betas=tuple(BETAS))


def exact_noise(x: jax.Array, t: jax.Array) -> jax.Array:
    """E[noise | x] at training step t, in closed form for Gaussian data."""
    index = t.astype(jnp.int32)
    signal = jnp.asarray(NOISE.signal(), jnp.float32)[index]
    sigma = jnp.asarray(NOISE.sigma(), jnp.float32)[index]
    return sigma * (x - signal * MEAN) / (signal**2 * DEVIATION**2 + sigma**2)


def error_of(name: str, steps: int, **said: Any) -> float:
    """Against the exact flow of the ODE from the table's first level to the least noisy one."""
    ends = {"timestep_spacing": "trailing", "final_sigmas_type": "sigma_min"}
    whole = {"lower_order_final": False}
    file = {**SD15, "trained_betas": list(BETAS), **ends, **whole, **said}
    table = make_table(parse(file, name), steps)
    x = np.linspace(-2, 2, 9)

    def spread(t: int) -> float:
        return float(np.hypot(NOISE.signal()[t] * DEVIATION, NOISE.sigma()[t]))

    first = int(table.timesteps[0])
    z = (x - NOISE.signal()[first] * MEAN) / spread(first)
    exact = NOISE.signal()[0] * MEAN + spread(0) * z
    start = x
    if name == "euler":  # whose samples are not scaled down as noise is added
        start, exact = x / NOISE.signal()[first], exact / NOISE.signal()[0]
    ours = jax.jit(lambda x, table: sample(exact_noise, x, table))(start, table)
    return float(np.abs(np.asarray(ours) - exact).max())


@pytest.mark.parametrize(
    ("name", "said", "order"),
    [
        ("euler", {}, 1),
        ("dpmpp", {"solver_order": 1}, 1),
        ("dpmpp", {}, 2),
        # The corrector of UniPC raises the order by one.
        ("unipc", {"solver_order": 1}, 2),
        ("unipc", {}, 3),
    ],
)
def test_the_error_on_a_gaussian_falls_with_the_order(
    name: str, said: dict[str, Any], order: int
) -> None:
    coarse, fine = error_of(name, 25, **said), error_of(name, 100, **said)
    assert coarse < 0.05
    assert coarse / fine > 0.85 * 4**order


def test_one_program_serves_every_sampler_and_schedule_of_as_many_evaluations() -> None:
    traces = []

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        traces.append(t)
        return jnp.sin(x + t / 1000)

    @jax.jit
    def program(x: jax.Array, table: Table, key: jax.Array) -> jax.Array:
        def noise(index: jax.Array) -> jax.Array:
            return jax.random.normal(jax.random.fold_in(key, index), x.shape)

        return sample(denoise, x, table, noise=noise)

    x, key = jnp.ones((2, 4)), jax.random.key(0)
    files = [SD15, {**SD15, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}]
    for name in SAMPLERS:
        for file in files:
            steps = 19 if name == "pndm" else 20  # PLMS evaluates one step twice
            table = make_table(parse(file, name), steps)
            assert len(table) == 20
            assert np.all(np.isfinite(program(x, table, key)))
    assert program._cache_size() == 1
    program(x, make_table(parse(SD15, "ddim"), 40, strength=0.5), key)
    program(x, make_table(parse(SD15, "ddim"), 20, eta=1.0), key)
    assert program._cache_size() == 1
    assert len(traces) <= 2  # the scan may look at its body twice


def test_noise_of_an_image_is_its_own() -> None:
    table = make_table(parse(SD15, "lcm"), 4)
    assert table.stochastic

    def run(seeds: list[int]) -> np.ndarray:
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])

        def noise(index: jax.Array) -> jax.Array:
            return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), (3,)))(
                keys
            )

        return np.asarray(
            sample(lambda x, t: 0.1 * x, jnp.ones((len(seeds), 3)), table, noise=noise)
        )

    np.testing.assert_array_equal(run([5, 6, 7])[1:], run([6, 7]))
    assert np.abs(run([5]) - run([6])).max() > 0.1


def test_a_stochastic_table_without_noise_is_refused() -> None:
    table = make_table(parse(SD15, "lcm"), 4)
    with pytest.raises(ValueError, match="pass noise="):
        sample(lambda x, t: x, jnp.ones(3), table)
    for name in ("ddim", "pndm", "euler", "dpmpp", "unipc"):
        assert not make_table(parse(SD15, name), 4).stochastic
    assert not make_table(parse(SD15, "lcm"), 1).stochastic


@pytest.mark.parametrize("name", SAMPLERS)
def test_inpainting_ends_with_the_known_region_as_it_was(name: str) -> None:
    table = make_table(parse(SD15, name), 10)
    known, noise, mask = jnp.full(4, 0.7), jnp.full(4, -1.2), jnp.asarray([1.0, 1.0, 0.0, 0.0])
    seen: list[tuple[int, np.ndarray]] = []

    def renoise(index: jax.Array, x: jax.Array) -> jax.Array:
        signal, sigma = jnp.asarray(table.after_signal), jnp.asarray(table.after_sigma)
        x = jnp.where(mask > 0, signal[index] * known + sigma[index] * noise, x)
        jax.debug.callback(lambda i, x: seen.append((int(i), np.asarray(x))), index, x)
        return x

    x = sample(
        lambda x, t: jnp.tanh(x), noise, table, noise=lambda i: jnp.zeros(4), step_hook=renoise
    )
    jax.effects_barrier()
    np.testing.assert_allclose(x[:2], known[:2], rtol=1e-6)
    assert sorted(index for index, _ in seen) == list(range(len(table)))


def test_everything_is_float32_whatever_the_network_answers_in() -> None:
    table = make_table(parse(SD15, "dpmpp"), 5)
    told: list[Any] = []

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        told.append((x.dtype, t.dtype))
        return x.astype(jnp.bfloat16)

    x = sample(denoise, jnp.ones(3, jnp.bfloat16), table)
    assert x.dtype == jnp.float32
    assert set(told) == {(jnp.dtype(jnp.float32), jnp.dtype(jnp.float32))}


def test_plms_does_its_first_step_twice_from_the_same_sample() -> None:
    table = make_table(parse(SD15), 20)
    assert len(table) == 21
    np.testing.assert_array_equal(table.timesteps[:4], [951, 901, 901, 851])


@pytest.mark.parametrize("name", SAMPLERS)
def test_tables_are_float64_until_they_run(name: str) -> None:
    table = make_table(parse(SD15, name), 20)
    assert {leaf.dtype for leaf in jax.tree.leaves(table)} == {np.dtype(np.float64)}
