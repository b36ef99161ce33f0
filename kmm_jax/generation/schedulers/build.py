"""The table of a sampler, for a number of steps and, from an image, a strength."""

from __future__ import annotations

from kmm_jax.errors import ConfigError
from kmm_jax.generation.schedulers.config import (
    DDIM,
    LCM,
    PNDM,
    DPMSolver,
    Euler,
    SchedulerConfig,
)
from kmm_jax.generation.schedulers.ddim import ddim
from kmm_jax.generation.schedulers.dpmpp import dpmpp
from kmm_jax.generation.schedulers.euler import euler
from kmm_jax.generation.schedulers.lcm import lcm
from kmm_jax.generation.schedulers.levels import check_steps
from kmm_jax.generation.schedulers.pndm import pndm
from kmm_jax.generation.schedulers.table import Table
from kmm_jax.generation.schedulers.unipc import unipc


def make_table(
    config: SchedulerConfig, steps: int, *, strength: float = 1.0, eta: float = 0.0
) -> Table:
    """The sampler of ``config`` in ``steps`` steps, as coefficients.

    Args:
        strength: of image to image, the share of the steps that is done (SDEdit, arXiv 2108.01073):
            the table has the last ``int(steps * strength)`` steps, and the image is noised with its
            ``start_signal`` and ``start_sigma``.
        eta: DDIM's share of fresh noise.

    Raises:
        ConfigError: a number of steps, a strength or an eta that cannot work.
    """
    noise, sampler = config.noise, config.sampler
    check_steps(steps, training_steps=noise.training_steps)
    begin = _begin(steps, strength)
    if isinstance(sampler, DDIM):
        return ddim(noise, sampler, steps, begin=begin, eta=eta)
    if eta != 0:
        raise ConfigError(f"eta is {eta}, which only ddim knows; choose ddim or leave eta at 0")
    if isinstance(sampler, PNDM):
        return pndm(noise, sampler, steps, begin=begin)
    if isinstance(sampler, Euler):
        return euler(noise, sampler, steps, begin=begin)
    if isinstance(sampler, DPMSolver):
        return dpmpp(noise, sampler, steps, begin=begin)
    if isinstance(sampler, LCM):
        return lcm(noise, sampler, steps, begin=begin)
    return unipc(noise, sampler, steps, begin=begin)


def _begin(steps: int, strength: float) -> int:
    if not 0 < strength <= 1:
        raise ConfigError(
            f"strength is {strength}; it must lie above 0 and be at most 1, which keeps least "
            "of the image"
        )
    done = int(steps * strength)
    if done == 0:
        raise ConfigError(
            f"strength {strength} of {steps} steps is less than one step; choose a strength of at "
            f"least {1 / steps:.3g} or more steps"
        )
    return steps - done
