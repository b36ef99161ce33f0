"""PLMS: PNDM without its Runge-Kutta steps (arXiv 2202.09778)."""

from __future__ import annotations

import math

import numpy as np

from kmm_jax.generation.schedulers import levels
from kmm_jax.generation.schedulers.config import PNDM
from kmm_jax.generation.schedulers.prediction import noise_row
from kmm_jax.generation.schedulers.table import OUTPUT, PAST, SAVED, ZERO, Step, Table, X, assemble
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule

# Adams-Bashforth: of the output now and those before it, newest first (equation 12).
_MULTISTEP = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def pndm(noise: NoiseSchedule, sampler: PNDM, steps: int, *, begin: int = 0) -> Table:
    """The table from evaluation ``begin`` on; more than one step has an evaluation more.

    The second evaluation does the first step again, from the sample that the first saved, with the
    mean of both outputs (Heun's method). Begun later, the outputs count from there, but the second
    level is not visited twice: so diffusers does image to image.
    """
    alphas_T = noise.alphas_cumprod()
    spaced = levels.down_to_zero(
        sampler.timestep_spacing,
        steps,
        training_steps=noise.training_steps,
        offset=sampler.steps_offset,
    )
    levels.check_timesteps(spaced, steps=steps, training_steps=noise.training_steps)
    timesteps = np.concatenate([spaced[:1], spaced[1:2], spaced[1:]]).astype(np.int64)
    final = 1.0 if sampler.set_alpha_to_one else alphas_T[0]
    stride = noise.training_steps // steps
    table = []
    for i, timestep in enumerate(timesteps[begin:]):
        repeated = i == 1
        start, stop = (timestep + stride, timestep) if repeated else (timestep, timestep - stride)
        alpha = alphas_T[start]
        alpha_next = alphas_T[stop] if stop >= 0 else final
        sample = SAVED if repeated else X
        signal, sigma = math.sqrt(alpha), math.sqrt(1 - alpha)
        noise_now = noise_row(noise.prediction, signal, sigma, x=sample, output=_output(i))
        # Equation 9; the denominator is written so that nothing cancels.
        denominator = alpha * math.sqrt(1 - alpha_next) + math.sqrt(
            alpha * (1 - alpha) * alpha_next
        )
        table.append(
            Step(
                timestep=timestep,
                clean=ZERO,
                next=math.sqrt(alpha_next / alpha) * sample
                - (alpha_next - alpha) / denominator * noise_now,
                save=X if i == 0 else ZERO,
                remember=PAST[0] if repeated else OUTPUT,
                signal=math.sqrt(alphas_T[timestep]),
                sigma=math.sqrt(1 - alphas_T[timestep]),
            )
        )
    return assemble(table)


def _output(i: int) -> np.ndarray:
    """What stands for the network's output at evaluation ``i``."""
    if i == 1:
        return 0.5 * OUTPUT + 0.5 * PAST[0]
    weights = _MULTISTEP[min(max(i - 1, 0), 3)]
    return sum((w * row for w, row in zip(weights, (OUTPUT, *PAST), strict=False)), start=ZERO)
