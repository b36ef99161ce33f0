"""DPM-Solver++ multistep: solvers of the ODE of the clean sample in log-SNR (arXiv 2211.01095)."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from kmm_jax.generation.schedulers import levels
from kmm_jax.generation.schedulers.config import DPMSolver
from kmm_jax.generation.schedulers.prediction import clean_row
from kmm_jax.generation.schedulers.table import CLEAN, PAST, Step, Table, X, assemble
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule

# With fewer evaluations than these the last steps are of lower order (lower_order_final).
_FEW = 15


def dpmpp(noise: NoiseSchedule, sampler: DPMSolver, steps: int, *, begin: int = 0) -> Table:
    """The table from evaluation ``begin`` on, where the order rises anew from 1."""
    timesteps, ratio_n = _levels(noise, sampler, steps)
    signal_n, sigma_n = signal_and_sigma(ratio_n)
    count = len(timesteps)
    table = []
    for i in range(begin, count):
        order = min(_order(sampler, i, count), i - begin + 1)
        table.append(
            Step(
                timestep=timesteps[i],
                clean=clean_row(noise.prediction, signal_n[i], sigma_n[i]),
                next=_next(sampler, ratio_n, i, order),
                remember=CLEAN,
                signal=signal_n[i],
                sigma=sigma_n[i],
            )
        )
    return assemble(table)


def signal_and_sigma(
    ratio_n: Float[np.ndarray, "n"],
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Of a variance-preserving sample with these ratios of noise to signal."""
    signal_n = 1 / np.sqrt(ratio_n**2 + 1)
    return signal_n, ratio_n * signal_n


def _levels(
    noise: NoiseSchedule, sampler: DPMSolver, steps: int
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n+1"]]:
    ratio_T = levels.ratios(noise)
    if sampler.use_karras_sigmas:
        ratio_n = levels.karras(ratio_T[-1], ratio_T[0], steps)
        timesteps = levels.timestep_of(ratio_n, ratio_T)
        # Whole steps always: what is not rounded for the cosine schedule is cut off instead.
        cut = noise.beta_schedule == "squaredcos_cap_v2"
        timesteps = np.floor(timesteps) if cut else np.round(timesteps)
    else:
        noisier = int(np.count_nonzero(-np.log(ratio_T) < sampler.lambda_min_clipped))
        timesteps = levels.above_zero(
            sampler.timestep_spacing,
            steps,
            training_steps=noise.training_steps,
            offset=sampler.steps_offset,
            last=noise.training_steps - noisier,
        )
        levels.check_timesteps(timesteps, steps=steps, training_steps=noise.training_steps)
        ratio_n = ratio_T[timesteps.astype(np.int64)]
    levels.check_falling(ratio_n, steps=steps)
    return timesteps, levels.with_final(ratio_n, sampler.final_sigmas_type, ratio_T)


def _order(sampler: DPMSolver, i: int, count: int) -> int:
    """The order that evaluation ``i`` may have, as far as the end of the run is concerned."""
    lower = sampler.lower_order_final and count < _FEW
    if i == count - 1 and (lower or sampler.euler_at_final or sampler.final_sigmas_type == "zero"):
        return 1
    if i == count - 2 and lower:
        return min(sampler.solver_order, 2)
    return sampler.solver_order


def _next(sampler: DPMSolver, ratio_n: np.ndarray, i: int, order: int) -> np.ndarray:
    signal_n, sigma_n = signal_and_sigma(ratio_n)
    signal = signal_n[i + 1]
    # exp(-h) of the step h in log-SNR; 0 where the final ratio is.
    shrink = ratio_n[i + 1] / ratio_n[i]
    row = sigma_n[i + 1] / sigma_n[i] * X - signal * (shrink - 1) * CLEAN
    h = -math.log(shrink) if shrink > 0 else math.inf
    if order == 1 or h == 0:
        return row
    h_0 = math.log(ratio_n[i - 1] / ratio_n[i])
    slope = h / h_0 * (CLEAN - PAST[0])
    second = signal * ((shrink - 1) / h + 1)
    if order == 2:
        weight = second if sampler.solver_type == "heun" else -0.5 * signal * (shrink - 1)
        return row + weight * slope
    h_1 = math.log(ratio_n[i - 2] / ratio_n[i - 1])
    change = slope - h / h_1 * (PAST[0] - PAST[1])
    slope = slope + h_0 / (h_0 + h_1) * change
    bend = h / (h_0 + h_1) * change
    return row + second * slope - signal * ((shrink - 1 + h) / h**2 - 0.5) * bend
