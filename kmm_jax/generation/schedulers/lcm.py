"""Multistep sampling of a latent consistency model: denoise wholly, add noise again, repeat.

The steps are of the schedule that the model was distilled on (arXiv 2310.04378).
"""

from __future__ import annotations

import math

import numpy as np

from kmm_jax.errors import ConfigError
from kmm_jax.generation.schedulers.config import LCM
from kmm_jax.generation.schedulers.prediction import clean_row
from kmm_jax.generation.schedulers.table import CLEAN, NOISE, Step, Table, X, assemble
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule

# The standard deviation of the data in the boundary condition of consistency models.
_DATA_SIGMA = 0.5


def lcm(noise: NoiseSchedule, sampler: LCM, steps: int, *, begin: int = 0) -> Table:
    """The table from evaluation ``begin`` on; all but the last step add fresh noise."""
    alphas_T = noise.alphas_cumprod()
    timesteps = _timesteps(sampler, steps, training_steps=noise.training_steps)
    table = []
    for i in range(begin, steps):
        timestep = timesteps[i]
        signal, sigma = math.sqrt(alphas_T[timestep]), math.sqrt(1 - alphas_T[timestep])
        scaled = timestep * sampler.timestep_scaling
        skip = _DATA_SIGMA**2 / (scaled**2 + _DATA_SIGMA**2)
        denoised = scaled / math.sqrt(scaled**2 + _DATA_SIGMA**2) * CLEAN + skip * X
        alpha_next = alphas_T[timesteps[i + 1]] if i + 1 < steps else 1.0
        table.append(
            Step(
                timestep=timestep,
                clean=clean_row(noise.prediction, signal, sigma),
                next=math.sqrt(alpha_next) * denoised + math.sqrt(1 - alpha_next) * NOISE,
                signal=signal,
                sigma=sigma,
            )
        )
    return assemble(table, clip=sampler.clip_sample_range if sampler.clip_sample else np.inf)


def _timesteps(sampler: LCM, steps: int, *, training_steps: int) -> np.ndarray:
    distilled = sampler.original_inference_steps
    if not 1 <= distilled <= training_steps:
        raise ConfigError(
            f"original_inference_steps is {distilled}; it must lie between 1 and {training_steps}"
        )
    if steps > distilled:
        raise ConfigError(
            f"steps is {steps}, but the model was distilled on {distilled} "
            f"(original_inference_steps); choose at most {distilled}, usually 1 to 8"
        )
    levels = np.arange(distilled, 0, -1) * (training_steps // distilled) - 1
    return levels[np.floor(np.linspace(0, distilled, steps, endpoint=False)).astype(np.int64)]
