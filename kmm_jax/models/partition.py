"""How the layers here split over a mesh: rules from parameter path to partition.

The models know no mesh; these rules are data that `training.sharding` applies. Stacked layers carry
a leading layer dimension, which stays whole. Column-parallel projections go before row-parallel
ones, so a layer needs one reduction after attention and one after the FFN (arXiv 1909.08053).
"""

from __future__ import annotations

from typing import Literal

from jax.sharding import PartitionSpec

Rule = tuple[str, PartitionSpec | Literal["fsdp"]]

RULES: tuple[Rule, ...] = (
    (r".*layers/.*(query|key|value|up)/kernel", PartitionSpec(None, "fsdp", "tensor")),
    (r".*layers/.*(query|key|value|up)/bias", PartitionSpec(None, "tensor")),
    (r".*layers/.*(out|down)/kernel", PartitionSpec(None, "tensor", "fsdp")),
    (r".*tokens/embedding", PartitionSpec("tensor", "fsdp")),
    (r".*", "fsdp"),
)
