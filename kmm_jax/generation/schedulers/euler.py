"""Euler's method on the probability flow ODE in the noise-to-signal ratio (arXiv 2206.00364).

The sample is not scaled down as noise is added: ``x == clean + ratio * noise``.
"""

from __future__ import annotations

import math

import numpy as np

from kmm_jax.generation.schedulers import levels
from kmm_jax.generation.schedulers.config import Euler
from kmm_jax.generation.schedulers.prediction import clean_row, noise_row
from kmm_jax.generation.schedulers.table import Step, Table, X, assemble
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule


def euler(noise: NoiseSchedule, sampler: Euler, steps: int, *, begin: int = 0) -> Table:
    """The table from evaluation ``begin`` on; evenly spaced time steps are fractions."""
    ratio_T = levels.ratios(noise)
    timesteps = levels.down_to_zero(
        sampler.timestep_spacing,
        steps,
        training_steps=noise.training_steps,
        offset=sampler.steps_offset,
        rounded=False,
    )
    levels.check_timesteps(timesteps, steps=steps, training_steps=noise.training_steps)
    ratio_n = np.interp(timesteps, np.arange(noise.training_steps), ratio_T)
    if sampler.use_karras_sigmas:
        ratio_n = levels.karras(ratio_n[0], ratio_n[-1], steps)
        timesteps = levels.timestep_of(ratio_n, ratio_T)
    ratio_n = levels.with_final(ratio_n, sampler.final_sigmas_type, ratio_T)
    table = []
    for i in range(begin, steps):
        ratio = ratio_n[i]
        # The sample as the network sees it: scaled to unit variance.
        scale = 1 / math.sqrt(ratio**2 + 1)
        conversion = (noise.prediction, scale, ratio * scale)
        table.append(
            Step(
                timestep=timesteps[i],
                input_scale=scale,
                clean=clean_row(*conversion, x=scale * X),
                next=X + (ratio_n[i + 1] - ratio) * noise_row(*conversion, x=scale * X),
                signal=1.0,
                sigma=ratio,
            )
        )
    highest = ratio_n.max()
    leading = sampler.timestep_spacing == "leading"
    return assemble(table, initial_sigma=math.sqrt(highest**2 + 1) if leading else highest)
