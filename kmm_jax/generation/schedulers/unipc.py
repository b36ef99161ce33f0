"""UniPC: a predictor, corrected once the network has seen where it led (arXiv 2302.04867)."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from kmm_jax.generation.schedulers import levels
from kmm_jax.generation.schedulers.config import UniPC
from kmm_jax.generation.schedulers.dpmpp import signal_and_sigma
from kmm_jax.generation.schedulers.prediction import clean_row
from kmm_jax.generation.schedulers.table import CLEAN, PAST, SAVED, ZERO, Step, Table, X, assemble
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule


def unipc(noise: NoiseSchedule, sampler: UniPC, steps: int, *, begin: int = 0) -> Table:
    """The table from evaluation ``begin`` on, where the order rises anew from 1.

    A step corrects the sample that it is given, from the one that the step before had saved, and
    goes on from there; both are linear, so a step is one row.
    """
    timesteps, ratio_n = _levels(noise, sampler, steps)
    signal_n, sigma_n = signal_and_sigma(ratio_n)
    table = []
    before = 0  # the order of the step before
    for i in range(begin, steps):
        sample = X
        if before and i - 1 not in sampler.disable_corrector:
            sample = _corrected(sampler, ratio_n, i, before)
        order = min(sampler.solver_order, i - begin + 1)
        if sampler.lower_order_final:
            order = min(order, steps - i)
        table.append(
            Step(
                timestep=timesteps[i],
                clean=clean_row(noise.prediction, signal_n[i], sigma_n[i]),
                next=_predicted(sampler, ratio_n, i, order, sample),
                save=sample,
                remember=CLEAN,
                signal=signal_n[i],
                sigma=sigma_n[i],
            )
        )
        before = order
    return assemble(table)


def _levels(
    noise: NoiseSchedule, sampler: UniPC, steps: int
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n+1"]]:
    ratio_T = levels.ratios(noise)
    if sampler.use_karras_sigmas:
        ratio_n = levels.karras(ratio_T[-1], ratio_T[0], steps)
        timesteps = np.round(levels.timestep_of(ratio_n, ratio_T))
    else:
        timesteps = levels.above_zero(
            sampler.timestep_spacing,
            steps,
            training_steps=noise.training_steps,
            offset=sampler.steps_offset,
            last=noise.training_steps,
        )
        levels.check_timesteps(timesteps, steps=steps, training_steps=noise.training_steps)
        ratio_n = ratio_T[timesteps.astype(np.int64)]
    ratio_n = levels.with_final(ratio_n, sampler.final_sigmas_type, ratio_T)
    levels.check_falling(ratio_n, steps=steps)
    return timesteps, ratio_n


def _predicted(
    sampler: UniPC, ratio_n: np.ndarray, i: int, order: int, sample: np.ndarray
) -> np.ndarray:
    """UniP: from ``sample`` at level i to level i + 1 (equation 3 for the clean sample)."""
    row, scale, h = _first_order(sampler, ratio_n, i, sample, CLEAN)
    if order == 1:
        return row
    reach_k, differences = _differences(ratio_n, i, order, h, CLEAN, PAST)
    # Of order 2 the paper takes one half, whichever B(h) (its appendix F).
    weights = (
        [0.5] if order == 2 else np.linalg.solve(*_system(sampler, reach_k, h, rows=order - 1))
    )
    return row + scale * _combine(weights, differences)


def _corrected(sampler: UniPC, ratio_n: np.ndarray, i: int, order: int) -> np.ndarray:
    """UniC: level i reached again from the saved sample, now with the network's word there."""
    row, scale, h = _first_order(sampler, ratio_n, i - 1, SAVED, PAST[0])
    reach_k, differences = _differences(ratio_n, i - 1, order, h, PAST[0], PAST[1:])
    if order == 1:
        weights: np.ndarray | list[float] = [0.5]
    else:
        weights = np.linalg.solve(*_system(sampler, np.append(reach_k, 1.0), h, rows=order))
    return row + scale * _combine(weights, [*differences, CLEAN - PAST[0]])


def _first_order(
    sampler: UniPC, ratio_n: np.ndarray, i: int, sample: np.ndarray, clean: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """The step of order 1 from level i, the factor of what is added to it, and its h."""
    signal_n, sigma_n = signal_and_sigma(ratio_n[i : i + 2])
    shrink = ratio_n[i + 1] / ratio_n[i]
    h = -math.log(shrink) if shrink > 0 else math.inf
    row = sigma_n[1] / sigma_n[0] * sample - signal_n[1] * (shrink - 1) * clean
    return row, -signal_n[1] * _b_of_h(sampler, h), h


def _differences(
    ratio_n: np.ndarray,
    i: int,
    order: int,
    h: float,
    now: np.ndarray,
    earlier: tuple[np.ndarray, ...],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """How far back, in steps, each remembered clean sample lies, and its slope to the one now."""
    reach_k = np.asarray([math.log(ratio_n[i] / ratio_n[i - k]) / h for k in range(1, order)])
    return reach_k, [(past - now) / r for past, r in zip(earlier, reach_k, strict=False)]


def _b_of_h(sampler: UniPC, h: float) -> float:
    return -h if sampler.solver_type == "bh1" else math.expm1(-h)


def _system(
    sampler: UniPC, reach_k: np.ndarray, h: float, *, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """The equations that make the step exact for polynomials (equation 8 and theorem 3.1)."""
    right = []
    phi, factorial = math.expm1(-h) / -h - 1, 1
    for k in range(1, rows + 1):
        right.append(phi * factorial / _b_of_h(sampler, h))
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    return np.vander(reach_k, rows, increasing=True).T, np.asarray(right)


def _combine(weights: np.ndarray | list[float], rows: list[np.ndarray]) -> np.ndarray:
    return sum((w * row for w, row in zip(weights, rows, strict=True)), start=ZERO)
