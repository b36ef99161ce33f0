"""The module of each kind of text encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import nnx

from kmm_jax.models.diffusion.config import (
    AnyTextConfig,
    ResampledTextEncoderConfig,
    TextEncoderConfig,
)
from kmm_jax.models.diffusion.resampler import ResampledTextEncoder
from kmm_jax.models.diffusion.text_encoder import TextEncoder

AnyTextEncoder = TextEncoder | ResampledTextEncoder

_MODULES: dict[type, Callable[..., Any]] = {
    TextEncoderConfig: TextEncoder,
    ResampledTextEncoderConfig: ResampledTextEncoder,
}


def text_encoder(config: AnyTextConfig, *, rngs: nnx.Rngs) -> AnyTextEncoder:
    """The text encoder of ``config`` with fresh parameters."""
    module: AnyTextEncoder = _MODULES[type(config)](config, rngs=rngs)
    return module
