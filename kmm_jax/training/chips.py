"""Accelerators as data: what each can hold, compute and send, and where the figures are from."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from kmm_jax.errors import ConfigError, nearest

if TYPE_CHECKING:
    import jax

_NVIDIA = "NVIDIA data sheets"
_GOOGLE = "Cloud TPU documentation, system architecture"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One accelerator, and the machine it stands in.

    Attributes:
        device_kind: regex for the name JAX gives it.
        flops: dense bfloat16 operations a second, without sparsity.
        memory: bytes of its own memory; the runtime's share is not taken off.
        memory_bandwidth: bytes a second to that memory.
        island: chips joined by the fast links: a node's GPUs, a pod's TPUs.
        link_bandwidth: bytes a second each chip can send over those links in one collective. Of a
            TPU's torus, one ring: two of its ports.
        network_bandwidth: bytes a second of the network between islands, a chip's share.
        flash_attention: the attention we call there never writes its scores to memory.
        source: where the figures stand.
    """

    name: str
    device_kind: str
    flops: float
    memory: float
    memory_bandwidth: float
    island: int
    link_bandwidth: float
    network_bandwidth: float
    flash_attention: bool
    source: str


CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            name="a100",
            device_kind=r"A100(?!.*40GB)",
            flops=312e12,
            memory=80e9,
            memory_bandwidth=2.039e12,
            island=8,
            link_bandwidth=300e9,
            network_bandwidth=25e9,
            flash_attention=True,
            source=f"{_NVIDIA}: A100 80GB SXM (NVLink 600 GB/s in both directions together), "
            "DGX A100 (one 200 Gb/s port a GPU)",
        ),
        Chip(
            name="h100",
            device_kind=r"H100(?! PCIe| NVL)",
            flops=989e12,
            memory=80e9,
            memory_bandwidth=3.35e12,
            island=8,
            link_bandwidth=450e9,
            network_bandwidth=50e9,
            flash_attention=True,
            source=f"{_NVIDIA}: H100 SXM (1,979 TFLOP/s are with sparsity; NVLink 900 GB/s in "
            "both directions together), DGX H100 (one 400 Gb/s port a GPU)",
        ),
        Chip(
            name="h200",
            device_kind=r"(?<!G)H200(?! NVL)",
            flops=989e12,
            memory=141e9,
            memory_bandwidth=4.8e12,
            island=8,
            link_bandwidth=450e9,
            network_bandwidth=50e9,
            flash_attention=True,
            source=f"{_NVIDIA}: H200 SXM, DGX H200 (as H100, with more and faster memory)",
        ),
        Chip(
            name="v5e",
            device_kind=r"TPU v5 ?lite|TPU v5e",
            flops=197e12,
            memory=16e9,
            memory_bandwidth=819e9,
            island=256,
            link_bandwidth=100e9,
            network_bandwidth=3.125e9,
            flash_attention=False,
            source=f"{_GOOGLE}: v5e (400 GB/s over 4 ports in both directions; two 100 Gb/s "
            "cards a host of 8 chips)",
        ),
        Chip(
            name="v5p",
            device_kind=r"TPU v5(?! ?lite|e)",
            flops=459e12,
            memory=95 * 2**30,
            memory_bandwidth=2.765e12,
            island=6144,
            link_bandwidth=200e9,
            network_bandwidth=6.25e9,
            flash_attention=False,
            source=f"{_GOOGLE}: v5p (1,200 GB/s over 6 ports in both directions; 50 Gb/s of data "
            "centre network a chip; slices of up to 6,144 chips)",
        ),
        Chip(
            name="v6e",
            device_kind=r"TPU v6",
            flops=918e12,
            memory=32e9,
            memory_bandwidth=1.6e12,
            island=256,
            link_bandwidth=200e9,
            network_bandwidth=12.5e9,
            flash_attention=False,
            source=f"{_GOOGLE}: v6e (3,200 Gb/s over 4 ports in each direction; four 200 Gb/s "
            "cards a host of 8 chips)",
        ),
    )
}


def chip_of(device: jax.Device) -> Chip | None:
    """The chip a device is, or None where there are no figures for it."""
    for chip in CHIPS.values():
        if re.search(chip.device_kind, device.device_kind):
            return chip
    return None


def chip_named(name: str) -> Chip:
    """The chip of that name.

    Raises:
        ConfigError: there is none; names those there are.
    """
    if name not in CHIPS:
        shown = ", ".join(sorted(CHIPS))
        raise ConfigError(
            f"no figures for a chip {name!r}{nearest(name, CHIPS)}; there are {shown}"
        )
    return CHIPS[name]
