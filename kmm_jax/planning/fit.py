"""Which meshes have memory enough, by the analytic count: nothing is compiled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from kmm_jax.errors import ConfigError
from kmm_jax.planning.memory import USABLE, Memory, memory
from kmm_jax.planning.step import loss_memory, prepared
from kmm_jax.training import setup as setups
from kmm_jax.training import sharding
from kmm_jax.training.chips import Chip
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.setup import Setup

_MOST_TENSOR = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A mesh whose devices' memory suffices."""

    chips: int
    mesh: dict[str, int]
    accumulate: int
    memory: Memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitter:
    """Looks for meshes of an experiment on a chip.

    Attributes:
        per_example: bytes of activations, see ``step.Traced``.
    """

    experiment: Experiment
    chip: Chip
    per_example: float
    _setup: Setup

    @classmethod
    def of(cls, experiment: Experiment, chip: Chip, per_example: float) -> Fitter:
        """Begin: the model's shapes are found once."""
        config = sharding.MeshConfig(data=1, fsdp_min_size=experiment.mesh.fsdp_min_size)
        mesh = sharding.abstract_mesh(config, 1)
        setup = prepared(experiment, mesh)
        return cls(experiment=experiment, chip=chip, per_example=per_example, _setup=setup)

    def least_splitting(self, chips: int) -> Fit | None:
        """The mesh over ``chips`` that fits with the least splitting, or None.

        As few devices along ``fsdp`` as hold the state, then more parts to a batch
        (``accumulate``, doubled), then ``tensor``.
        """
        for tensor in _divisors(chips):
            if tensor > min(self.chip.island, _MOST_TENSOR):
                return None
            rows = max(self.experiment.global_batch_size // max(chips // tensor, 1), 1)
            for factor in _powers(max(rows // self.experiment.accumulate, 1)):
                for fsdp in _divisors(chips // tensor):
                    parts = self.experiment.accumulate * factor
                    found = self._fit(chips, fsdp=fsdp, tensor=tensor, accumulate=parts)
                    if found is not None:
                        return found
        return None

    def fewest_parts(self, mesh: Mapping[str, int]) -> Fit | None:
        """The fewest parts to a batch (``accumulate``) with which this mesh fits, or None."""
        rows = self.experiment.global_batch_size // (mesh["data"] * mesh["fsdp"])
        for factor in _powers(max(rows // self.experiment.accumulate, 1)):
            found = self._fit(
                math.prod(mesh.values()),
                fsdp=mesh["fsdp"],
                tensor=mesh["tensor"],
                accumulate=self.experiment.accumulate * factor,
            )
            if found is not None:
                return found
        return None

    def fewest_chips(self, *, most: int = 4096) -> Fit | None:
        """The fewest chips, a power of two, on which any mesh fits; at the config's ``accumulate``.

        More parts to a batch would fit on fewer, in proportion slower.
        """
        for chips in _powers(most):
            for fsdp in _divisors(chips):
                accumulate = self.experiment.accumulate
                found = self._fit(chips, fsdp=fsdp, tensor=1, accumulate=accumulate)
                if found is not None:
                    return found
        return None

    def refusal(self, mesh: Mapping[str, int]) -> str | None:
        """Why the run cannot be split over this mesh, whatever the memory; None if it can."""
        config = dataclasses.replace(self.experiment.mesh, **mesh)
        tried = dataclasses.replace(self.experiment, mesh=config)
        abstract = sharding.abstract_mesh(config, math.prod(mesh.values()))
        try:
            setups.check_batch(tried, abstract)
            setups.over_another_mesh(tried, self._setup, abstract)
        except ConfigError as error:
            return str(error)
        return None

    def _fit(self, chips: int, *, fsdp: int, tensor: int, accumulate: int) -> Fit | None:
        if chips % (fsdp * tensor):
            return None
        config = dataclasses.replace(
            self.experiment.mesh, data=chips // fsdp // tensor, fsdp=fsdp, tensor=tensor
        )
        tried = dataclasses.replace(self.experiment, mesh=config, accumulate=accumulate)
        mesh = sharding.abstract_mesh(config, chips)
        try:
            setups.check_batch(tried, mesh)
            setup = setups.over_another_mesh(tried, self._setup, mesh)
        except ConfigError:  # the batch or a layer does not divide over this one
            return None
        enough = USABLE * self.chip.memory
        needed = memory(tried, setup, per_example=self.per_example, over_batch=0.0)
        if needed.total > enough:  # without looking at the loss
            return None
        loss = loss_memory(tried, setup)
        needed = memory(tried, setup, per_example=self.per_example, over_batch=loss)
        if needed.total > enough:
            return None
        return Fit(chips=chips, mesh=dict(mesh.shape), accumulate=accumulate, memory=needed)


def _divisors(number: int) -> Iterator[int]:
    return (size for size in range(1, number + 1) if number % size == 0)


def _powers(most: int) -> Iterator[int]:
    power = 1
    while power <= most:
        yield power
        power *= 2
