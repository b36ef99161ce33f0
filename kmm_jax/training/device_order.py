"""Which device stands where in a mesh, so that the busiest axes stay on the fastest links.

A node's GPUs, or a slice's TPUs, exchange data many times faster than two nodes do. ``tensor``
speaks in every layer, ``fsdp`` gathers every parameter twice a step, ``data`` sums gradients once:
inside a node or slice first ``tensor``, then ``fsdp``; ``data`` is what crosses the slow network.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def islands(devices: Sequence[Any]) -> list[list[Any]]:
    """The devices in groups with fast links inside: slices where there are several, else hosts.

    Groups are in the order of their number, devices within in that of theirs. With one process per
    GPU a host is several processes; JAX then tells the host by ``slice_index`` too.
    """
    slices = {getattr(device, "slice_index", None) for device in devices}
    by_slice = len(slices) > 1

    def island(device: Any) -> int:
        return device.slice_index if by_slice else device.process_index

    groups: dict[int, list[Any]] = collections.defaultdict(list)
    for device in devices:
        groups[island(device)].append(device)
    return [sorted(groups[number], key=lambda device: device.id) for number in sorted(groups)]


def crossing(sizes: Sequence[int], axes: Sequence[str], island: int) -> list[str]:
    """The axes, but for the first, that do not fit inside islands of that many devices."""
    inner, crossed = 1, []
    for size, axis in list(zip(sizes, axes, strict=True))[:0:-1]:
        inner *= size
        if size > 1 and island % inner:
            crossed.append(axis)
    return crossed


def arrange(devices: Sequence[Any], sizes: Sequence[int]) -> np.ndarray | None:
    """An array of devices with these sizes, the last axis fastest and inside islands if it fits.

    None where there is one island, or islands of several sizes: then the order JAX chooses is as
    good as any.
    """
    groups = islands(devices)
    size = len(groups[0])
    inner = math.prod(sizes[1:])
    if len(groups) == 1 or any(len(group) != size for group in groups):
        return None
    if size % inner == 0 and devices[0].platform == "tpu":
        from jax.experimental import mesh_utils

        # Within a slice the chips form a torus; neighbours there should be neighbours in the mesh.
        shape = (size // inner, *sizes[1:])
        blocks = [mesh_utils.create_device_mesh(shape, group) for group in groups]
        return np.concatenate(blocks)
    ordered = np.empty(len(devices), object)
    ordered[:] = [device for group in groups for device in group]
    return ordered.reshape(sizes)
