"""Clean sample and noise from what the network predicts, as rows over the basis of a step."""

from __future__ import annotations

import numpy as np

from kmm_jax.errors import ConfigError
from kmm_jax.generation.schedulers.table import OUTPUT, X
from kmm_jax.models.diffusion.noise_schedule import Prediction


def clean_row(
    prediction: Prediction, signal: float, sigma: float, *, x: np.ndarray = X
) -> np.ndarray:
    """The clean sample of a noisy one, ``x == signal * clean + sigma * noise``.

    Raises:
        ConfigError: the network predicts noise where nothing else is left.
    """
    if prediction == "sample":
        return OUTPUT
    if prediction == "v_prediction":
        return signal * x - sigma * OUTPUT
    if signal == 0:
        raise ConfigError(
            "the first step is pure noise (zero terminal SNR), where a network that predicts "
            "epsilon says nothing about the image; it needs v_prediction, or a timestep_spacing "
            "that leaves the last training step out"
        )
    return (x - sigma * OUTPUT) / signal


def noise_row(
    prediction: Prediction,
    signal: float,
    sigma: float,
    *,
    x: np.ndarray = X,
    output: np.ndarray = OUTPUT,
) -> np.ndarray:
    """The noise in ``x``, from the network's output or from a combination of its outputs."""
    if prediction == "epsilon":
        return output
    if prediction == "v_prediction":
        return signal * output + sigma * x
    return (x - signal * output) / sigma
