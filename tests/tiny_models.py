"""The CoCa that tests build: large enough to have every part, small enough to compile at once."""

from typing import Any

from kmm_jax.models.coca.config import CoCaConfig, small


def tiny_coca(**changes: Any) -> CoCaConfig:
    """Images of 16 px in patches of 8, width 32, one layer of each kind."""
    sizes: dict[str, Any] = {
        "image_size": 16,
        "patch_size": 8,
        "width": 32,
        "depth": 1,
        "half": 1,
        "queries": 4,
    }
    return small(**sizes | changes)
