"""How the networks of diffusion split over a mesh: rules from parameter path to partition.

Attention and FFN split by heads and by hidden width, as in ``models/partition.py``; convolutions by
their output channels over ``fsdp`` alone.
"""

from __future__ import annotations

from jax.sharding import PartitionSpec

from kmm_jax.models.partition import RULES as TEXT_RULES
from kmm_jax.models.partition import Rule

RULES: tuple[Rule, ...] = (
    (r".*transformer_blocks/.*to_(q|k|v)/kernel", PartitionSpec("fsdp", "tensor")),
    (r".*transformer_blocks/.*to_out/kernel", PartitionSpec("tensor", "fsdp")),
    (r".*transformer_blocks/.*ff/out/kernel", PartitionSpec("tensor", "fsdp")),
    *TEXT_RULES,
)

AUTOENCODER_RULES: tuple[Rule, ...] = ((r".*", "fsdp"),)
"""Of an autoencoder alone, which is convolutions."""
