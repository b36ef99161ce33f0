"""How much noise each training step holds: the one schedule of training and of every sampler.

T training steps, B batch.

At step t a sample is ``signal[t] * x + sigma[t] * noise`` with ``signal ** 2 + sigma ** 2 == 1``
(variance preserving; DDPM, arXiv 2006.11239, equation 4). Tables are float64 on the host; what a
training step needs of them is float32 on the device.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kmm_jax.errors import ConfigError, nearest

BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
Prediction = Literal["epsilon", "v_prediction", "sample"]

# Beyond this a step of the cosine schedule would leave nothing of the sample.
_LARGEST_COSINE_BETA = 0.999


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The variances of the forward process, and what the network predicts; by default SD 1.x's.

    Attributes:
        training_steps: T, the number of noise levels.
        beta_schedule: ``linear`` in beta (DDPM), ``scaled_linear`` in its root (latent diffusion),
            or ``squaredcos_cap_v2`` (Nichol and Dhariwal, arXiv 2102.09672, equation 17).
        beta_start, beta_end: the first and last variance of the two linear schedules.
        trained_betas: T variances instead of a formula.
        rescale_zero_snr: shift the schedule so that the last step is pure noise (Lin et al.,
            arXiv 2305.08891, algorithm 1); a network that predicts epsilon can learn nothing there.
        prediction: the network's output: the noise, the velocity ``signal * noise - sigma * x``
            (Salimans and Ho, arXiv 2202.00512), or the clean sample.

    Raises:
        ConfigError: an unknown name, or variances outside (0, 1).
    """

    training_steps: int = 1000
    beta_schedule: BetaSchedule = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    trained_betas: tuple[float, ...] | None = None
    rescale_zero_snr: bool = False
    prediction: Prediction = "epsilon"

    def __post_init__(self) -> None:
        for field, choices in (("beta_schedule", BetaSchedule), ("prediction", Prediction)):
            value, names = getattr(self, field), get_args(choices)
            if value not in names:
                raise ConfigError(f"{field} is {value!r}{nearest(str(value), names)}")
        if self.training_steps < 2:
            raise ConfigError(f"training_steps is {self.training_steps}; at least 2 are needed")
        if self.trained_betas is not None and len(self.trained_betas) != self.training_steps:
            raise ConfigError(
                f"trained_betas holds {len(self.trained_betas)} variances for "
                f"{self.training_steps} training steps; one for each is needed"
            )
        betas_T = _formula_betas(self)
        if not np.all((betas_T > 0) & (betas_T < 1)):
            raise ConfigError(
                f"the betas run from {betas_T.min():g} to {betas_T.max():g}; each variance must "
                "lie between 0 and 1"
            )

    def alphas_cumprod(self) -> Float[np.ndarray, "T"]:
        """``signal ** 2`` of every step, float64, read-only; with zero terminal SNR 0 at last."""
        return _alphas_cumprod(self)

    def signal(self) -> Float[np.ndarray, "T"]:
        """What is left of the clean sample at every step, float64."""
        return np.sqrt(self.alphas_cumprod())

    def sigma(self) -> Float[np.ndarray, "T"]:
        """The standard deviation of the noise at every step, float64."""
        return np.sqrt(1 - self.alphas_cumprod())


def _formula_betas(schedule: NoiseSchedule) -> np.ndarray:
    start, end, steps = schedule.beta_start, schedule.beta_end, schedule.training_steps
    if schedule.trained_betas is not None:
        return np.asarray(schedule.trained_betas, np.float64)
    if schedule.beta_schedule == "linear":
        return np.linspace(start, end, steps)
    if schedule.beta_schedule == "scaled_linear":
        return np.linspace(math.sqrt(start), math.sqrt(end), steps) ** 2
    time = np.arange(steps + 1) / steps
    left = np.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - left[1:] / left[:-1], _LARGEST_COSINE_BETA)


@functools.lru_cache(maxsize=32)
def _alphas_cumprod(schedule: NoiseSchedule) -> np.ndarray:
    alphas_T = np.cumprod(1 - _formula_betas(schedule))
    if schedule.rescale_zero_snr:
        signal_T = np.sqrt(alphas_T)
        first, last = signal_T[0], signal_T[-1]
        alphas_T = ((signal_T - last) * (first / (first - last))) ** 2
    alphas_T.setflags(write=False)
    return alphas_T


def _at(table_T: np.ndarray, t_B: Int[Array, "B"], ndim: int) -> Array:
    """The float32 entries of a table, ready to multiply arrays of ``ndim`` dimensions."""
    values_B = jnp.asarray(table_T, jnp.float32)[t_B]
    return values_B.reshape(values_B.shape + (1,) * (ndim - values_B.ndim))


def add_noise(
    schedule: NoiseSchedule,
    x: Float[Array, "B ..."],
    noise: Float[Array, "B ..."],
    t_B: Int[Array, "B"],
) -> Float[Array, "B ..."]:
    """Noisy samples at the training steps ``t_B``, each of its own image."""
    return _at(schedule.signal(), t_B, x.ndim) * x + _at(schedule.sigma(), t_B, x.ndim) * noise


def velocity(
    schedule: NoiseSchedule,
    x: Float[Array, "B ..."],
    noise: Float[Array, "B ..."],
    t_B: Int[Array, "B"],
) -> Float[Array, "B ..."]:
    """The target of v-prediction (arXiv 2202.00512, section 4)."""
    return _at(schedule.signal(), t_B, x.ndim) * noise - _at(schedule.sigma(), t_B, x.ndim) * x


def target(
    schedule: NoiseSchedule,
    x: Float[Array, "B ..."],
    noise: Float[Array, "B ..."],
    t_B: Int[Array, "B"],
) -> Float[Array, "B ..."]:
    """What the network is to predict of ``add_noise(schedule, x, noise, t_B)``."""
    if schedule.prediction == "epsilon":
        return noise
    if schedule.prediction == "sample":
        return x
    return velocity(schedule, x, noise, t_B)


def snr(schedule: NoiseSchedule, t_B: Int[Array, "B"]) -> Float[Array, "B"]:
    """The ratio ``signal ** 2 / sigma ** 2``, as min-SNR weights need it (arXiv 2303.09556)."""
    alphas_T = schedule.alphas_cumprod()
    return _at(alphas_T / (1 - alphas_T), t_B, 1)
