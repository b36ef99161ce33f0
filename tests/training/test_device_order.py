"""Which axis of a mesh stays inside a node or slice."""

import dataclasses

import numpy as np
import pytest

from kmm_jax.training.device_order import arrange, crossing, islands

AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class Device:
    id: int
    process_index: int
    slice_index: int | None = None
    platform: str = "gpu"


def hosts(count, each):
    """One process a host with ``each`` devices, in an order as the network may give it."""
    devices = [Device(id=i, process_index=i // each) for i in range(count * each)]
    return devices[::-1]


def host_of(arranged):
    return np.vectorize(lambda device: device.process_index)(arranged)


def test_fsdp_and_tensor_stay_on_a_host_and_data_crosses():
    arranged = arrange(hosts(4, 8), (4, 4, 2))
    assert arranged.shape == (4, 4, 2)
    of = host_of(arranged)
    for data in range(4):
        assert len(set(of[data].flat)) == 1
    assert sorted(of[:, 0, 0]) == [0, 1, 2, 3]


def test_several_replicas_share_a_host():
    of = host_of(arrange(hosts(2, 8), (8, 2, 1)))
    assert (of[:4] == 0).all() and (of[4:] == 1).all()


def test_one_process_per_gpu_is_grouped_by_what_jax_calls_a_slice():
    devices = [Device(id=i, process_index=i, slice_index=i // 4) for i in range(8)]
    assert [[device.id for device in group] for group in islands(devices)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]
    arranged = arrange(devices, (2, 4, 1))
    assert [device.slice_index for device in arranged[1].flat] == [1] * 4


def test_one_host_and_uneven_hosts_are_left_to_jax():
    assert arrange(hosts(1, 8), (2, 2, 2)) is None
    assert arrange([*hosts(1, 4), Device(id=9, process_index=1)], (5, 1, 1)) is None


@pytest.mark.parametrize(
    ("sizes", "island", "crossed"),
    [
        ((4, 4, 2), 8, []),
        ((2, 8, 2), 8, ["fsdp"]),
        ((1, 1, 16), 8, ["tensor"]),
        ((2, 3, 1), 8, ["fsdp"]),
        ((16, 1, 1), 8, []),
    ],
)
def test_axes_that_reach_beyond_a_host_are_named(sizes, island, crossed):
    assert crossing(sizes, AXES, island) == crossed
