"""Layer-wise learning-rate decay: the nearer to the input a layer lies, the slower it is trained.

ELECTRA (arXiv 2003.10555), then finetuning of BEiT (arXiv 2106.08254) and MAE (arXiv 2111.06377,
table 9) and of CLIP after them: of a tower of L layers the heads have the whole rate, layer l the
rate x decay^(L + 1 - l), the embeddings the rate x decay^(L + 1).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kmm_jax.errors import ConfigError
from kmm_jax.models.depth import heights
from kmm_jax.training.lora import matrix_of
from kmm_jax.training.parameter_names import named


def shares(params: Any, decay: float) -> dict[str, np.ndarray]:
    """The share of the learning rate by parameter: () float32, or (L, 1, ...) along a stack.

    Args:
        params: all parameters of a run (or shapes), frozen ones and LoRA's factors included; the
            factors of a matrix have its share.

    Raises:
        ConfigError: there are no layers.
    """
    leaves = named(params)
    own = {path: tuple(leaf.shape) for path, leaf in leaves.items() if matrix_of(path) == path}
    steps = heights(own)
    if not any(step != (0,) for step in steps.values()):
        raise ConfigError(
            f"optimizer.layer_decay is {decay}, but the model has no stacks of layers; set it to "
            "none"
        )
    found = {}
    for path, leaf in leaves.items():
        # Stacked layers carry a leading dimension, and what is scaled is each slice of it.
        share = np.asarray(decay ** np.asarray(steps[matrix_of(path)], np.float64), np.float32)
        stacked = "layers" in path.split("/")
        found[path] = share.reshape((-1,) + (1,) * (leaf.ndim - 1)) if stacked else share[0]
    return found


def scale_by_layer(shares: dict[str, np.ndarray]) -> optax.GradientTransformation:
    """Updates times their parameters' shares; without a state."""

    def scale(updates: Any, params: Any = None) -> Any:
        del params

        def one(path: Any, update: jax.Array) -> jax.Array:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return update * jnp.asarray(shares[name], update.dtype)

        return jax.tree_util.tree_map_with_path(one, updates)

    return optax.stateless(scale)
