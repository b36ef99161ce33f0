"""Every sampler as one table: a linear step per evaluation of the network.

n evaluations, O outputs of a step, B elements of its basis.

A step of any of the samplers makes new arrays as linear combinations of a few: the sample, a saved
sample, the clean sample as predicted now, the network's raw output, the K last arrays remembered,
and fresh noise. The coefficients depend on the schedule alone and are computed in float64 before
anything runs; all samplers share one shape, so that another sampler with as many evaluations is
other numbers for the same compiled program.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

HISTORY = 3
"""How many remembered arrays a step may read: PLMS and UniPC of order 3 read three."""

_UNITS = np.eye(5 + HISTORY)
_UNITS.setflags(write=False)

# The basis of a step. A coefficient row is written as a sum of these: ``0.5 * X + 0.5 * CLEAN``.
X: np.ndarray = _UNITS[0]
"""The sample before the step."""
SAVED: np.ndarray = _UNITS[1]
"""The sample that an earlier step saved."""
CLEAN: np.ndarray = _UNITS[2]
"""The clean sample as predicted now, clipped where the sampler clips."""
OUTPUT: np.ndarray = _UNITS[3]
"""The network's raw output."""
PAST: tuple[np.ndarray, ...] = tuple(_UNITS[4 : 4 + HISTORY])
"""What earlier steps remembered, the newest first."""
NOISE: np.ndarray = _UNITS[4 + HISTORY]
"""Fresh standard normal noise."""

ZERO: np.ndarray = 0 * X

# The outputs of a step, in the order of the rows.
NEXT, SAVE, REMEMBER = range(3)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Table:
    """A sampler of n evaluations. A pytree: hand it to a jitted function as an argument.

    Attributes:
        timesteps: what the network is told; fractional for Euler.
        input_scale: what the sample is multiplied by before the network sees it.
        clean_from_x, clean_from_output: the clean sample as a combination of sample and output.
        clip: the bound of the clean sample; infinite where it is not clipped.
        weights: per step three rows over the basis: the next sample, the sample to save, and what
            to remember.
        after_signal, after_sigma: with which a known clean sample is noised to the level after each
            step; 1 and 0 after the last.
        initial_sigma: the standard deviation of the noise that sampling starts from.
        start_signal, start_sigma: with which a clean sample is noised to the level of the first
            step, for image to image.
    """

    timesteps: Float[np.ndarray, "n"]
    input_scale: Float[np.ndarray, "n"]
    clean_from_x: Float[np.ndarray, "n"]
    clean_from_output: Float[np.ndarray, "n"]
    clip: Float[np.ndarray, ""]
    weights_nOB: Float[np.ndarray, "n O B"]
    after_signal: Float[np.ndarray, "n"]
    after_sigma: Float[np.ndarray, "n"]
    initial_sigma: Float[np.ndarray, ""]
    start_signal: Float[np.ndarray, ""]
    start_sigma: Float[np.ndarray, ""]

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def stochastic(self) -> bool:
        """Whether fresh noise enters; to be asked of a concrete table, outside of jit."""
        return bool(np.any(np.asarray(self.weights_nOB) @ NOISE))

    def part(self, begin: int, end: int) -> Table:
        """The evaluations from ``begin`` to before ``end``, to run a sampler piece by piece."""
        return dataclasses.replace(
            self, **{name: getattr(self, name)[begin:end] for name in _OF_EACH}
        )


# The fields of a table that have a row an evaluation.
_OF_EACH = (
    "timesteps",
    "input_scale",
    "clean_from_x",
    "clean_from_output",
    "weights_nOB",
    "after_signal",
    "after_sigma",
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row of a table, as a sampler writes it.

    Attributes:
        timestep, input_scale: as in `Table`.
        clean: over `X` and `OUTPUT` only.
        next, save, remember: over the whole basis.
        signal, sigma: of the level that the step starts from.
    """

    timestep: float
    clean: np.ndarray
    next: np.ndarray
    signal: float
    sigma: float
    save: np.ndarray = dataclasses.field(default_factory=lambda: ZERO)
    remember: np.ndarray = dataclasses.field(default_factory=lambda: ZERO)
    input_scale: float = 1.0


def assemble(steps: list[Step], *, initial_sigma: float = 1.0, clip: float = np.inf) -> Table:
    """A table of the steps of a sampler, in their order."""
    clean_nB = np.stack([step.clean for step in steps])
    levels = [(step.signal, step.sigma) for step in steps] + [(1.0, 0.0)]
    signal, sigma = np.asarray(levels, np.float64).T
    return Table(
        timesteps=np.asarray([step.timestep for step in steps], np.float64),
        input_scale=np.asarray([step.input_scale for step in steps], np.float64),
        clean_from_x=clean_nB @ X,
        clean_from_output=clean_nB @ OUTPUT,
        clip=np.asarray(clip, np.float64),
        weights_nOB=np.stack([np.stack([s.next, s.save, s.remember]) for s in steps]),
        after_signal=signal[1:],
        after_sigma=sigma[1:],
        initial_sigma=np.asarray(initial_sigma, np.float64),
        start_signal=signal[0],
        start_sigma=sigma[0],
    )
