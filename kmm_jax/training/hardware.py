"""Peak speed of accelerators, for the model FLOPs utilisation (MFU)."""

from __future__ import annotations

import re

import jax

# Dense bfloat16 FLOP/s of one JAX device, from the vendors' data sheets; the figure with
# sparsity is twice as high and no model here reaches it. First match counts.
_PEAKS = (
    (r"H100 PCIe", 756e12),
    (r"H100 NVL", 835e12),
    (r"H100|H200|GH200", 989e12),
    (r"A100", 312e12),
    (r"TPU v6", 918e12),
    (r"TPU v5 ?lite|TPU v5e", 197e12),
    (r"TPU v5", 459e12),
    (r"TPU v4", 275e12),
)


def peak_flops(device: jax.Device) -> float | None:
    """Dense bfloat16 FLOP/s of the device, or None where it is not known."""
    for pattern, peak in _PEAKS:
        if re.search(pattern, device.device_kind):
            return peak
    return None


def mfu(examples_per_second: float, flops_per_example: float, devices: int, peak: float) -> float:
    """Share of the peak spent on the model's own operations: three forward passes' worth.

    Recomputation (remat) does not count as work done.
    """
    return 3 * flops_per_example * examples_per_second / (devices * peak)
