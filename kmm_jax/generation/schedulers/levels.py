"""Which noise levels a sampler visits: training steps, and noise-to-signal ratios.

n evaluations, T training steps. All in float64, the noisiest first.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from kmm_jax.errors import ConfigError
from kmm_jax.generation.schedulers.config import FinalSigma, Spacing
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule

# Of the last step of a schedule with zero terminal SNR, as diffusers' solvers in the ratio of noise
# to signal have it: the ratio stays finite.
_LEAST_ALPHA = 2.0**-24

# The exponent of Karras et al., arXiv 2206.00364, equation 5.
_RHO = 7.0


def down_to_zero(
    spacing: Spacing, steps: int, *, training_steps: int, offset: int, rounded: bool = True
) -> Float[np.ndarray, "n"]:
    """Training steps of a sampler that evaluates the network at the least noisy one as well.

    The spacings are those of arXiv 2305.08891, table 2.
    """
    if spacing == "linspace":
        levels = np.linspace(0, training_steps - 1, steps)[::-1]
        return np.round(levels) if rounded else levels
    if spacing == "leading":
        return (np.arange(steps) * (training_steps // steps))[::-1] + float(offset)
    return _trailing(steps, training_steps, last=training_steps)


def above_zero(
    spacing: Spacing, steps: int, *, training_steps: int, offset: int, last: int
) -> Float[np.ndarray, "n"]:
    """Training steps, below ``last``, of a sampler whose final noise level stands apart."""
    if spacing == "linspace":
        return np.round(np.linspace(0, last - 1, steps + 1))[:0:-1]
    if spacing == "leading":
        return (np.arange(steps + 1) * (last // (steps + 1)))[:0:-1] + float(offset)
    return _trailing(steps, training_steps, last=last)


def _trailing(steps: int, training_steps: int, *, last: int) -> np.ndarray:
    # Rounding may leave `arange` one element too many, which would lie below zero.
    return np.round(np.arange(last, 0, -training_steps / steps))[:steps] - 1


def ratios(noise: NoiseSchedule) -> Float[np.ndarray, "T"]:
    """The ratio of noise to signal of every training step, always finite."""
    alphas_T = noise.alphas_cumprod().copy()
    if noise.rescale_zero_snr:
        alphas_T[-1] = _LEAST_ALPHA
    return np.sqrt((1 - alphas_T) / alphas_T)


def karras(first: float, last: float, steps: int) -> Float[np.ndarray, "n"]:
    """Ratios evenly spaced in their seventh root (arXiv 2206.00364, equation 5)."""
    return np.linspace(first ** (1 / _RHO), last ** (1 / _RHO), steps) ** _RHO


def timestep_of(ratio_n: np.ndarray, ratio_T: np.ndarray) -> Float[np.ndarray, "n"]:
    """The training step, fractional, at which the schedule has each ratio (linear in its log)."""
    return np.interp(np.log(ratio_n), np.log(ratio_T), np.arange(len(ratio_T)))


def with_final(
    ratio_n: np.ndarray, final: FinalSigma, ratio_T: np.ndarray
) -> Float[np.ndarray, "n+1"]:
    """The ratios with the one that the last step arrives at."""
    return np.append(ratio_n, ratio_T[0] if final == "sigma_min" else 0.0)


def check_steps(steps: int, *, training_steps: int) -> None:
    """Raise `ConfigError` unless ``steps`` is a number of evaluations that the schedule has."""
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ConfigError(f"steps is {steps!r}; it must be a whole number from 1")
    if steps > training_steps:
        raise ConfigError(
            f"steps is {steps}, but the noise schedule has {training_steps} levels; choose at most "
            f"{training_steps - 1}"
        )


def check_timesteps(timesteps_n: np.ndarray, *, steps: int, training_steps: int) -> None:
    """Raise `ConfigError` if a sampler would ask for a level beyond the schedule's."""
    highest = timesteps_n.max()
    if highest > training_steps - 1:
        raise ConfigError(
            f"{steps} steps with this steps_offset begin at training step {highest:g}, but the "
            f"last is {training_steps - 1}; choose fewer steps (at most {training_steps - 2}) or "
            "steps_offset 0"
        )


def check_falling(ratio_n: np.ndarray, *, steps: int) -> None:
    """Raise `ConfigError` if two of a multistep solver's noise levels coincide."""
    if np.any(np.diff(ratio_n) >= 0):
        raise ConfigError(
            f"{steps} steps visit a noise level twice with this spacing; choose fewer steps"
        )
