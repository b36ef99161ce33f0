"""Reading and writing scheduler_config.json, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.generation.schedulers.build import make_table
from kmm_jax.generation.schedulers.config import (
    DDIM,
    LCM,
    PNDM,
    SAMPLERS,
    DPMSolver,
    Euler,
    SchedulerConfig,
    UniPC,
    for_sampler,
    parse,
    to_file,
)
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule
from tests.generation.schedulers.references import CLASSES, SD15, load_in_diffusers, reference


def test_the_file_of_stable_diffusion_is_plms_on_its_noise_schedule() -> None:
    config = parse(SD15)
    assert config.sampler == PNDM(steps_offset=1)
    assert config.noise == NoiseSchedule()


@pytest.mark.parametrize("kind", [DDIM, PNDM, Euler, DPMSolver, UniPC, LCM])
def test_what_a_file_leaves_out_is_the_default_of_its_class_in_diffusers(kind: Any) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is a reference, not installed")
    pytest.importorskip("torch", reason="torch is a reference, not installed")
    theirs = getattr(diffusers, kind.class_name)().config
    file = {"_class_name": kind.class_name} | ({"skip_prk_steps": True} if kind is PNDM else {})
    ours = to_file(parse(file))
    assert ours.pop("_class_name") == kind.class_name
    ours.pop("skip_prk_steps", None)
    assert ours == {key: theirs[key] for key in ours}


@pytest.mark.parametrize("name", SAMPLERS)
def test_another_sampler_is_what_from_config_of_diffusers_makes_of_the_file(name: str) -> None:
    theirs = reference({**SD15, "timestep_spacing": "trailing", "solver_order": 3}, name).config
    ours = to_file(parse({**SD15, "timestep_spacing": "trailing", "solver_order": 3}, name))
    ours.pop("_class_name")
    assert ours == {key: theirs[key] for key in ours}


@pytest.mark.parametrize("name", SAMPLERS)
def test_diffusers_reads_what_is_written(name: str, tmp_path: Path) -> None:
    config = parse({**SD15, "prediction_type": "v_prediction"}, name)
    written = to_file(config)
    assert parse(written) == config
    pytest.importorskip("torch", reason="torch is a reference, not installed")
    scheduler = load_in_diffusers(config, written, tmp_path)
    assert type(scheduler).__name__ == CLASSES[name][0]
    scheduler.set_timesteps(10)
    np.testing.assert_array_equal(
        np.float32(make_table(config, 10).timesteps), scheduler.timesteps.float().numpy()
    )


def test_another_sampler_keeps_the_noise_schedule_and_what_the_file_says() -> None:
    first = parse({**SD15, "timestep_spacing": "trailing"})
    noise = dataclasses.replace(first.noise, prediction="v_prediction")
    config = dataclasses.replace(first, noise=noise)
    there = for_sampler(config, "dpmpp-karras")
    assert there.sampler == DPMSolver(
        timestep_spacing="trailing", steps_offset=1, use_karras_sigmas=True
    )
    assert there.noise == noise
    assert for_sampler(there, "pndm") == config


def test_a_file_of_lcm_keeps_its_noise_schedule_with_another_sampler() -> None:
    assert parse({"_class_name": "LCMScheduler"}, "ddim").noise == NoiseSchedule()


def test_an_unsupported_class_serves_another_sampler_with_its_noise_schedule() -> None:
    file = {**SD15, "_class_name": "HeunDiscreteScheduler"}
    assert parse(file, "ddim").noise == parse(SD15).noise
    with pytest.raises(ConfigError, match=r"HeunDiscreteScheduler.*supported are DDIMSch.*unipc"):
        parse(file)


@pytest.mark.parametrize(
    ("class_name", "said", "message"),
    [
        ("DDIMScheduler", {"thresholding": True}, "thresholding = True is not supported"),
        ("LCMScheduler", {"thresholding": True}, "thresholding = True is not supported"),
        ("PNDMScheduler", {}, "skip_prk_steps is false"),
        ("PNDMScheduler", {"skip_prk_steps": True, "prediction_type": "sample"}, "'sample'"),
        ("PNDMScheduler", {"skip_prk_steps": True, "rescale_betas_zero_snr": True}, "zero termin"),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, "choose 'linear'"),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, "choose 'discrete'"),
        ("EulerDiscreteScheduler", {"sigma_max": 10.0}, "sigma_max = 10.0.*leave it out"),
        ("EulerDiscreteScheduler", {"use_beta_sigmas": True}, "use_beta_sigmas = True"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "choose 'dpmsol"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver"}, "choose 'dpmsolver"),
        ("DPMSolverMultistepScheduler", {"use_exponential_sigmas": True}, "not supported"),
        ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}, "not supported"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "not supported"),
        ("DPMSolverMultistepScheduler", {"variance_type": "learned"}, "leave it out"),
        ("DPMSolverMultistepScheduler", {"solver_order": 4}, "choose 1, 2 or 3"),
        ("DPMSolverMultistepScheduler", {"solver_type": "midpont"}, "did you mean 'midpoint'"),
        ("UniPCMultistepScheduler", {"predict_x0": False}, "choose True"),
        ("UniPCMultistepScheduler", {"solver_p": {}}, "leave it out"),
        ("UniPCMultistepScheduler", {"lower_order_final": False}, "infinitely long"),
        (
            "UniPCMultistepScheduler",
            {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
            "no length",
        ),
        ("DDIMScheduler", {"timestep_spacing": "trailling"}, "did you mean 'trailing'"),
        ("DDIMScheduler", {"beta_schedule": "laplace"}, "beta_schedule is 'laplace'"),
        ("DDIMScheduler", {"prediction_type": "flow_prediction"}, "prediction is 'flow_pred"),
        ("DDIMScheduler", {"trained_betas": [0.1, 0.2]}, "2 variances for 1000"),
        ("DDIMScheduler", {"beta_end": 1.5}, "between 0 and 1"),
    ],
)
def test_what_is_not_supported_is_refused(
    class_name: str, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({"_class_name": class_name, **said})


def test_an_unknown_sampler_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'unipc'"):
        parse(SD15, "unicp")


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, 1001])
def test_a_number_of_steps_that_cannot_be(steps: Any) -> None:
    with pytest.raises(ConfigError, match="steps is"):
        make_table(parse(SD15), steps)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("ddim", 1000), ("pndm", 1000), ("dpmpp", 1000), ("unipc", 1000), ("lcm", 51)],
)
def test_too_many_steps_for_the_offset_or_the_spacing(name: str, steps: int) -> None:
    with pytest.raises(ConfigError, match=r"fewer steps|at most 50"):
        make_table(parse(SD15, name), steps)
    make_table(parse(SD15, name), 50 if name == "lcm" else 998)


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.2, 0.01])
def test_a_strength_that_leaves_nothing_to_do(strength: float) -> None:
    with pytest.raises(ConfigError, match="strength"):
        make_table(parse(SD15), 50, strength=strength)


def test_eta_belongs_to_ddim_and_lies_within_its_bounds() -> None:
    with pytest.raises(ConfigError, match="only ddim"):
        make_table(parse(SD15), 10, eta=0.5)
    with pytest.raises(ConfigError, match="between 0"):
        make_table(parse(SD15, "ddim"), 10, eta=1.5)


@pytest.mark.parametrize("name", ["ddim", "lcm"])
def test_epsilon_cannot_be_predicted_from_pure_noise(name: str) -> None:
    config = parse({**SD15, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, name)
    with pytest.raises(ConfigError, match="v_prediction"):
        make_table(config, 4)


def test_a_configuration_made_by_hand_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="zero terminal SNR"):
        SchedulerConfig(noise=NoiseSchedule(rescale_zero_snr=True), sampler=PNDM())
