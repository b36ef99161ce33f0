"""Functions over pictures, compiled once for each form of their arguments, split over devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
        everywhere = self.everywhere(shared)
        first = () if params is None else (params,)
        arguments = (*first, *placed, *everywhere)
        leaves, tree = jax.tree.flatten(arguments)
        key = (name, static, tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
        if key not in self.compiled:
            specs = (
                *(_EVERYWHERE,) * len(first),
                *(_BATCH,) * len(placed),
                *(_EVERYWHERE,) * len(everywhere),
            )
            mapped = jax.shard_map(
                function, mesh=self._mesh, in_specs=specs, out_specs=_BATCH, check_vma=False
            )
            self.compiled[key] = jax.jit(mapped).lower(*arguments).compile()
        return self.compiled[key](*arguments)


def filled(array_BX: np.ndarray, rows: int) -> np.ndarray:
    """With its last row again, up to ``rows``."""
    more = rows - len(array_BX)
    return np.concatenate([array_BX, np.repeat(array_BX[-1:], more, axis=0)]) if more else array_BX
