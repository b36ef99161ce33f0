"""AdamW and Adafactor with warm-up, decay and clipping."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from kmm_jax.errors import ConfigError
from kmm_jax.training import duration
from kmm_jax.training.duration import Scale
from kmm_jax.training.layer_decay import scale_by_layer, shares

Decay = Literal["cosine", "linear", "constant"]
MomentDtype = Literal["float32", "bfloat16"]

# Stacked layers carry a leading dimension, so a bias there has two: the name tells, not the rank.
_NO_WEIGHT_DECAY = r"(.*/)?(bias|scale|log_scale)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (arXiv 1711.05101).

    Attributes:
        learning_rate: the peak.
        warmup: duration of the linear rise from 0.
        decay: how the rate falls from the peak to ``final_fraction`` of it by the end of the run.
        weight_decay: times the learning rate; on parameters of two dimensions and more.
        no_weight_decay: regex of the paths left out of it besides.
        clip_norm: largest global norm of the gradient; None leaves it.
        layer_decay: each layer's learning rate over that of the layer above it
            (``training.layer_decay``), the weight decay's with it; None gives all the same.
        first_moment_dtype: bfloat16 halves the first moment's memory.
    """

    learning_rate: float = 1e-3
    warmup: str = "5%"
    decay: Decay = "cosine"
    final_fraction: float = 0.0
    b1: float = 0.9
    b2: float = 0.98
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    no_weight_decay: str = _NO_WEIGHT_DECAY
    clip_norm: float | None = 1.0
    layer_decay: float | None = None
    first_moment_dtype: MomentDtype = "float32"

    def __post_init__(self) -> None:
        _check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adafactor:
    """Adafactor with decoupled weight decay (arXiv 1804.04235), as CoCa was trained.

    The second moment of a matrix is kept as row and column sums. Updates are not scaled by the
    parameters' size. Stacked layers count as one block in ``clip_block_rms``.

    Attributes:
        momentum: of the scaled update; None saves its memory.
        second_moment_decay: exponent of the decay rate, ``1 - t^-decay``.
        clip_block_rms: largest root mean square of a parameter's update.
        min_factored_size: only dimensions this long are factored.

    The other attributes are those of AdamW.
    """

    learning_rate: float = 8e-4
    warmup: str = "2%"
    decay: Decay = "linear"
    final_fraction: float = 0.0
    momentum: float | None = 0.9
    first_moment_dtype: MomentDtype = "bfloat16"
    second_moment_decay: float = 0.8
    epsilon: float = 1e-30
    clip_block_rms: float = 1.0
    min_factored_size: int = 128
    weight_decay: float = 0.01
    no_weight_decay: str = _NO_WEIGHT_DECAY
    clip_norm: float | None = 1.0
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        _check(self)


OptimizerConfig = AdamW | Adafactor


def learning_rate(config: OptimizerConfig, scale: Scale) -> optax.Schedule:
    """The learning rate of the update number ``step``, from 0.

    It rises linearly to the peak over the warm-up, then falls; the last update of the run has
    ``final_fraction`` of the peak, or just above.

    Raises:
        ConfigError: the warm-up is longer than the run.
    """
    total = scale.total_steps
    assert total is not None
    warmup = duration.resolve(config.warmup, scale)
    if warmup > total:
        raise ConfigError(
            f"optimizer.warmup {config.warmup!r} is {warmup} steps, more than the whole run's "
            f"{total}"
        )
    peak, final = config.learning_rate, config.final_fraction

    def schedule(step: Any) -> Any:
        # 1 at the end of warm-up, 0 after the last update.
        left = 1.0 - (step - warmup) / max(total - warmup, 1)
        left = jnp.clip(left, 0.0, 1.0)
        match config.decay:
            case "cosine":
                share = 0.5 - 0.5 * jnp.cos(jnp.pi * left)
            case "linear":
                share = left
            case "constant":
                share = jnp.ones_like(left)
        rising = jnp.minimum((step + 1) / max(warmup, 1), 1.0)
        after = final + (1.0 - final) * share if config.decay != "constant" else share
        return peak * jnp.where(step < warmup, rising, after)

    return schedule


def build(
    config: OptimizerConfig, scale: Scale, params: Any = None
) -> optax.GradientTransformation:
    """The gradient transformation of a run.

    Args:
        params: all parameters of the model, or their shapes; needed with ``layer_decay``.

    Raises:
        ConfigError: the warm-up is longer than the run, or no layer is there to decay.
    """
    # Not there where it does nothing, so that older checkpoints have the same state.
    by_layer = (
        [] if config.layer_decay is None else [scale_by_layer(shares(params, config.layer_decay))]
    )
    clip = optax.identity() if config.clip_norm is None else _clip(config.clip_norm)
    return optax.chain(
        clip,
        _direction(config),
        optax.add_decayed_weights(config.weight_decay, lambda params: decayed(params, config)),
        *by_layer,
        optax.scale_by_learning_rate(learning_rate(config, scale)),
    )


def decayed(params: Any, config: OptimizerConfig) -> Any:
    """Which parameters the weight decay is for: a tree of booleans."""

    def one(path: Any, leaf: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf.ndim >= 2 and re.fullmatch(config.no_weight_decay, name) is None

    return jax.tree_util.tree_map_with_path(one, params)


def _clip(norm: float) -> optax.GradientTransformation:
    return optax.clip_by_global_norm(norm)


def _direction(config: OptimizerConfig) -> optax.GradientTransformation:
    dtype = jnp.dtype(config.first_moment_dtype)
    if isinstance(config, AdamW):
        return optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.epsilon, mu_dtype=dtype)
    factored = optax.scale_by_factored_rms(
        decay_rate=config.second_moment_decay,
        min_dim_size_to_factor=config.min_factored_size,
        epsilon=config.epsilon,
    )
    momentum = (
        optax.identity()
        if config.momentum is None
        else optax.ema(config.momentum, debias=False, accumulator_dtype=dtype)
    )
    return optax.chain(factored, optax.clip_by_block_rms(config.clip_block_rms), momentum)


def _check(config: OptimizerConfig) -> None:
    duration.parse(config.warmup)
    if not config.learning_rate > 0:
        raise ConfigError(f"optimizer.learning_rate must be above 0, got {config.learning_rate}")
    if not 0 <= config.final_fraction <= 1:
        raise ConfigError(
            f"optimizer.final_fraction is a share of the peak, got {config.final_fraction}"
        )
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise ConfigError(
            f"optimizer.clip_norm must be above 0 (or none to not clip), got {config.clip_norm}"
        )
    if config.layer_decay is not None and not 0 < config.layer_decay <= 1:
        raise ConfigError(
            f"optimizer.layer_decay must be above 0 and at most 1 (or none), got "
            f"{config.layer_decay}"
        )
    try:
        re.compile(config.no_weight_decay)
    except re.error as error:
        raise ConfigError(f"optimizer.no_weight_decay is no regex: {error}") from error
