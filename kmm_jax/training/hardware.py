"""Peak speed of accelerators, for the model FLOPs utilisation (MFU)."""

from __future__ import annotations

import re

import jax

from kmm_jax.training.chips import chip_of

# Devices no run is planned for, and variants with another speed or memory than the chip of that
# name: dense bfloat16 FLOP/s of one, from the vendors' data sheets.
_OTHERS = (
    (r"H100 PCIe", 756e12),
    (r"H[12]00 NVL", 835e12),
    (r"GH200", 989e12),
    (r"A100", 312e12),
    (r"TPU v4", 275e12),
)


def peak_flops(device: jax.Device) -> float | None:
    """Dense bfloat16 FLOP/s of the device, or None where it is not known."""
    for pattern, peak in _OTHERS:
        if re.search(pattern, device.device_kind):
            return peak
    chip = chip_of(device)
    return None if chip is None else chip.flops


def mfu(examples_per_second: float, flops_per_example: float, devices: int, peak: float) -> float:
    """Share of the peak spent on the model's own operations: three forward passes' worth.

    Recomputation (remat) does not count as work done.
    """
    return 3 * flops_per_example * examples_per_second / (devices * peak)
