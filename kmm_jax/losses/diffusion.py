"""Losses of diffusion: the denoising error by noise level, and what an autoencoder is trained on.

B batch, T training steps.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def spread_steps(key: jax.Array, rows: int, training_steps: int) -> Int[Array, " B"]:
    """One training step for each example of a batch, evenly over all of them.

    Each is uniform alone; together they leave no gap (stratified, as in VDM, arXiv 2107.00630,
    appendix I.1), so that the loss of a batch varies less.
    """
    shift_key, order_key = jax.random.split(key)
    spread = (jax.random.uniform(shift_key) + jnp.arange(rows) / rows) % 1.0
    steps_B = jnp.minimum((spread * training_steps).astype(jnp.int32), training_steps - 1)
    return jax.random.permutation(order_key, steps_B)


def squared_error(
    predicted: Float[Array, "B ..."], target: Float[Array, "B ..."]
) -> Float[Array, " B"]:
    """The mean squared error of each example, float32."""
    each = jnp.square(predicted.astype(jnp.float32) - target.astype(jnp.float32))
    return each.reshape(each.shape[0], -1).mean(axis=1)


def min_snr_weights(
    snr_B: Float[Array, " B"], *, gamma: float, prediction: str
) -> Float[Array, " B"]:
    """Weights of examples by their signal-to-noise ratio (arXiv 2303.09556, equation 8).

    They are those of the clean sample's error, clamped at ``gamma``, turned into weights of what
    the network predicts: the noise, the velocity or the clean sample.
    """
    clamped_B = jnp.minimum(snr_B, gamma)
    if prediction == "epsilon":
        return clamped_B / jnp.maximum(snr_B, 1e-8)
    if prediction == "v_prediction":
        return clamped_B / (snr_B + 1.0)
    return clamped_B


def reconstruction_error(
    image: Float[Array, "B H W 3"], target: Float[Array, "B H W 3"]
) -> Float[Array, " B"]:
    """The mean absolute error of each picture and of its differences between neighbours.

    The second half is of edges: an absolute error alone leaves a picture soft.
    """

    def absolute(x: Array, y: Array) -> Array:
        each = jnp.abs(x - y)
        return each.reshape(each.shape[0], -1).mean(axis=1)

    across = absolute(jnp.diff(image, axis=2), jnp.diff(target, axis=2))
    down = absolute(jnp.diff(image, axis=1), jnp.diff(target, axis=1))
    return absolute(image, target) + (across + down) / 2
