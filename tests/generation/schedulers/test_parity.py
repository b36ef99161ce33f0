"""Each sampler against diffusers': the same time steps, and the same end of the same denoiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kmm_jax.generation.schedulers.build import make_table
from kmm_jax.generation.schedulers.config import parse
from kmm_jax.generation.schedulers.table import Table
from tests.generation.schedulers.references import (
    CLASSES,
    SD15,
    reference,
    relative_error,
    run_ours,
    run_reference,
)

STEPS = (1, 2, 4, 10, 20, 25, 50)

# Measured: at most 2e-6 where float32 allows, 2e-5 of Euler.
TOLERANCE = 1e-4


def compare(
    file: dict[str, Any],
    name: str,
    steps: int,
    *,
    strength: float | None = None,
    eta: float = 0.0,
    tolerance: float = TOLERANCE,
) -> Table:
    table = make_table(parse(file, name), steps, strength=strength or 1.0, eta=eta)
    timesteps, theirs = run_reference(reference(file, name), steps, strength=strength, eta=eta)
    if name == "euler" and file.get("use_karras_sigmas"):
        # Fractions, which diffusers finds in a table of float32.
        np.testing.assert_allclose(table.timesteps, timesteps, atol=2e-3)
    else:
        np.testing.assert_array_equal(np.float32(table.timesteps), np.float32(timesteps))
    ours = run_ours(table, from_image=strength is not None)
    assert relative_error(ours, theirs) <= tolerance
    return table


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CLASSES)
def test_each_sampler_of_stable_diffusion_ends_where_that_of_diffusers_does(
    name: str, steps: int
) -> None:
    compare(SD15, name, steps)


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        (name, prediction)
        for name in CLASSES
        for prediction in ("epsilon", "v_prediction", "sample")
        if (name, prediction) != ("pndm", "sample")  # which neither library has
    ],
)
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_spacings_and_predictions(name: str, spacing: str, prediction: str) -> None:
    file = {**SD15, "timestep_spacing": spacing, "prediction_type": prediction}
    compare(file, name, 10)
    compare(file, name, 25)


@pytest.mark.parametrize("set_alpha_to_one", [False, True])
@pytest.mark.parametrize("name", ["ddim", "pndm", "lcm"])
def test_the_last_alpha_of_the_file_or_one(name: str, set_alpha_to_one: bool) -> None:
    compare({**SD15, "set_alpha_to_one": set_alpha_to_one}, name, 10)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", [name for name in CLASSES if name != "pndm"])
def test_zero_terminal_snr_with_v_prediction(name: str, steps: int, spacing: str) -> None:
    file = {
        **SD15,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": spacing,
    }
    # Euler's sample begins 4096 times as large as it ends, and diffusers' float32 loses as much.
    compare(file, name, steps, tolerance=1e-3 if name == "euler" else TOLERANCE)


# Of Karras' levels on the cosine schedule diffusers cuts fractions off that its rounding decides.
@pytest.mark.parametrize("name", ["ddim", "pndm", "euler", "dpmpp", "unipc"])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_other_noise_schedules(name: str, schedule: str) -> None:
    file = {"_class_name": "DDIMScheduler", "beta_schedule": schedule, "clip_sample": False}
    compare({**file, "lambda_min_clipped": -5.1}, name, 20)


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("ddim", {"clip_sample": True, "clip_sample_range": 0.8}),
    ("lcm", {"clip_sample": True, "clip_sample_range": 0.8}),
    ("lcm", {"original_inference_steps": 100, "timestep_scaling": 3.0}),
    ("euler", {"use_karras_sigmas": True}),
    ("euler", {"use_karras_sigmas": True, "timestep_spacing": "leading"}),
    ("euler", {"final_sigmas_type": "sigma_min"}),
    ("dpmpp", {"solver_order": 1}),
    ("dpmpp", {"solver_order": 3}),
    ("dpmpp", {"solver_order": 3, "final_sigmas_type": "sigma_min"}),
    ("dpmpp", {"solver_type": "heun"}),
    ("dpmpp", {"solver_type": "bh2"}),
    ("dpmpp", {"euler_at_final": True, "final_sigmas_type": "sigma_min"}),
    ("dpmpp", {"final_sigmas_type": "sigma_min"}),
    ("dpmpp", {"lower_order_final": False, "final_sigmas_type": "sigma_min"}),
    ("dpmpp", {"lower_order_final": False, "solver_order": 3}),
    ("dpmpp-karras", {"final_sigmas_type": "sigma_min"}),
    ("dpmpp-karras", {"solver_type": "heun"}),
    ("unipc", {"solver_order": 1}),
    ("unipc", {"solver_order": 3}),
    # Not to sigma zero, where diffusers multiplies infinity by nothing.
    ("unipc", {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
    ("unipc", {"solver_type": "bh1", "solver_order": 3, "final_sigmas_type": "sigma_min"}),
    ("unipc", {"solver_type": "midpoint"}),
    ("unipc", {"use_karras_sigmas": True}),
    ("unipc", {"disable_corrector": [0, 1]}),
    ("unipc", {"final_sigmas_type": "sigma_min"}),
    ("unipc", {"lower_order_final": False, "final_sigmas_type": "sigma_min"}),
]


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_options_of_one_class(name: str, options: dict[str, Any], steps: int) -> None:
    compare({**SD15, **options}, name, steps)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_fresh_noise(eta: float) -> None:
    table = compare(SD15, "ddim", 10, eta=eta)
    assert table.stochastic


@pytest.mark.parametrize("strength", [0.1, 0.35, 0.5, 0.8, 0.98, 1.0])
@pytest.mark.parametrize("name", CLASSES)
def test_image_to_image_begins_where_that_of_diffusers_does(name: str, strength: float) -> None:
    for steps in (10, 25, 50):
        compare(SD15, name, steps, strength=strength)


@pytest.mark.parametrize("name", CLASSES)
def test_a_known_image_is_noised_to_each_level_as_inpainting_of_diffusers_does(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is a reference, not installed")
    table, scheduler = make_table(parse(SD15, name), 10), reference(SD15, name)
    scheduler.set_timesteps(10)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    for i, t in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(zero, t)
        scheduler.step(zero, t, zero)
        if i + 1 < len(table):
            at = scheduler.timesteps[i + 1 : i + 2]
            expected = (scheduler.add_noise(one, zero, at), scheduler.add_noise(zero, one, at))
            expected = tuple(float(value) for value in expected)
        else:
            expected = (1.0, 0.0)
        ours = (table.after_signal[i], table.after_sigma[i])
        np.testing.assert_allclose(ours, expected, rtol=2e-5)


def test_every_number_of_steps_has_the_time_steps_of_diffusers() -> None:
    schedulers = {name: reference(SD15, name) for name in CLASSES}
    for name, scheduler in schedulers.items():
        for steps in (3, 7, 13, 33, 49, 100, 333) if name != "lcm" else (3, 7, 13, 33, 49):
            scheduler.set_timesteps(steps)
            ours = make_table(parse(SD15, name), steps).timesteps
            np.testing.assert_array_equal(np.float32(ours), scheduler.timesteps.float().numpy())
