"""Functions over pictures, compiled once for each form of their arguments, split over devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

_BATCH = PartitionSpec("data")
_EVERYWHERE = PartitionSpec()


class Programs:
    """The programs of a generator. Each picture is computed whole on one device.

    Attributes:
        compiled: by what tells them apart: their name first, then the form of their arguments.
    """

    def __init__(self, devices: Sequence[jax.Device]):
        self._mesh = jax.make_mesh(
            (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=list(devices)
        )
        self.compiled: dict[tuple[Any, ...], Any] = {}

    def everywhere(self, tree: Any) -> Any:
        """Arrays, whole on every device."""
        return jax.device_put(tree, NamedSharding(self._mesh, _EVERYWHERE))

    def rows(self, pictures: int) -> int:
        """So many rows that every device has as many."""
        return -(-pictures // self._mesh.size) * self._mesh.size

    def run(
        self,
        name: str,
        function: Callable[..., Any],
        split: tuple[Any, ...],
        *,
        params: Any = None,
        shared: tuple[Any, ...] = (),
        static: tuple[Any, ...] = (),
    ) -> Any:
        """What ``function(params, *split, *shared)`` gives, its rows over the devices.

        Args:
            name: of the function; with ``static``, which tells its variants apart.
            split: arguments with a leading dimension of `rows`.
            params: the first argument, if there is one; it lies on every device already.
            shared: arguments that every device has whole.
        """
        placed = jax.device_put(split, NamedSharding(self._mesh, _BATCH))
        arguments = _Arguments(params, placed, self.everywhere(shared))
        return self._program(name, function, arguments, static).program(*arguments.all())

    def compile(
        self,
        name: str,
        function: Callable[..., Any],
        split: tuple[Any, ...],
        *,
        params: Any = None,
        shared: tuple[Any, ...] = (),
        static: tuple[Any, ...] = (),
    ) -> Any:
        """As `run`, but nothing is computed: shapes come out, and may stand for arrays going in."""

        def shapes(tree: Any, spec: PartitionSpec) -> Any:
            sharding = NamedSharding(self._mesh, spec)
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
            )

        arguments = _Arguments(params, shapes(split, _BATCH), shapes(shared, _EVERYWHERE))
        return self._program(name, function, arguments, static).gives

    def _program(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: _Arguments,
        static: tuple[Any, ...],
    ) -> _Program:
        leaves, tree = jax.tree.flatten(arguments.all())
        key = (name, static, tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
        if key not in self.compiled:
            specs = (
                *(_EVERYWHERE,) * (arguments.params is not None),
                *(_BATCH,) * len(arguments.split),
                *(_EVERYWHERE,) * len(arguments.shared),
            )
            mapped = jax.shard_map(
                function, mesh=self._mesh, in_specs=specs, out_specs=_BATCH, check_vma=False
            )
            lowered = jax.jit(mapped).lower(*arguments.all())
            gives = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lowered.out_info)
            self.compiled[key] = _Program(lowered.compile(), gives)
        return self.compiled[key]


class _Program(NamedTuple):
    """A compiled program, and the shapes of what it gives."""

    program: Any
    gives: Any


class _Arguments(NamedTuple):
    params: Any
    split: tuple[Any, ...]
    shared: tuple[Any, ...]

    def all(self) -> tuple[Any, ...]:
        """In their order."""
        return (*(() if self.params is None else (self.params,)), *self.split, *self.shared)


def filled(array_BX: Any, rows: int) -> Any:
    """With its last row again, up to ``rows``; of a shape, the shape of that."""
    if isinstance(array_BX, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((rows, *array_BX.shape[1:]), array_BX.dtype)
    more = rows - len(array_BX)
    return np.concatenate([array_BX, np.repeat(array_BX[-1:], more, axis=0)]) if more else array_BX
