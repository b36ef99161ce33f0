"""DDIM (arXiv 2010.02502), from deterministic (eta 0) to as noisy as DDPM (eta 1)."""

from __future__ import annotations

import math

import numpy as np

from kmm_jax.errors import ConfigError
from kmm_jax.generation.schedulers import levels
from kmm_jax.generation.schedulers.config import DDIM
from kmm_jax.generation.schedulers.prediction import clean_row, noise_row
from kmm_jax.generation.schedulers.table import CLEAN, NOISE, Step, Table, assemble
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule


def ddim(
    noise: NoiseSchedule, sampler: DDIM, steps: int, *, begin: int = 0, eta: float = 0.0
) -> Table:
    """The table from evaluation ``begin`` on; a step is equation 12 of the paper.

    The level after a step lies ``T // steps`` below, whatever the spacing, as in diffusers.

    Args:
        eta: the share of DDPM's noise (equation 16).
    """
    if not 0 <= eta <= 1:
        raise ConfigError(f"eta is {eta}; it must lie between 0 (deterministic) and 1 (DDPM)")
    alphas_T = noise.alphas_cumprod()
    timesteps = levels.down_to_zero(
        sampler.timestep_spacing,
        steps,
        training_steps=noise.training_steps,
        offset=sampler.steps_offset,
    )
    levels.check_timesteps(timesteps, steps=steps, training_steps=noise.training_steps)
    final = 1.0 if sampler.set_alpha_to_one else alphas_T[0]
    stride = noise.training_steps // steps
    table = []
    for timestep in timesteps[begin:].astype(np.int64):
        alpha = alphas_T[timestep]
        before = timestep - stride
        alpha_next = alphas_T[before] if before >= 0 else final
        signal, sigma = math.sqrt(alpha), math.sqrt(1 - alpha)
        fresh = eta * math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))
        direction = math.sqrt(max(1 - alpha_next - fresh**2, 0.0))
        table.append(
            Step(
                timestep=timestep,
                clean=clean_row(noise.prediction, signal, sigma),
                next=math.sqrt(alpha_next) * CLEAN
                + direction * noise_row(noise.prediction, signal, sigma)
                + fresh * NOISE,
                signal=signal,
                sigma=sigma,
            )
        )
    return assemble(table, clip=sampler.clip_sample_range if sampler.clip_sample else np.inf)
