"""Forward floating-point operations of a latent diffusion model, counted by hand.

As in ``models.flops``: a multiply and an add are two operations, of convolutions and matrix
products only, and a causal attention counts half its square.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kmm_jax.models.diffusion.config import (
    AnyTextConfig,
    LatentDiffusionConfig,
    ResampledTextEncoderConfig,
    TextEncoderConfig,
    UNetConfig,
    VAEConfig,
)


def _conv(positions: int, inputs: int, outputs: int, kernel: int = 3) -> float:
    return 2 * positions * kernel**2 * inputs * outputs


def _resnet(positions: int, inputs: int, outputs: int, time_width: int = 0) -> float:
    convs = _conv(positions, inputs, outputs) + _conv(positions, outputs, outputs)
    shortcut = _conv(positions, inputs, outputs, kernel=1) if inputs != outputs else 0
    return convs + shortcut + 2 * time_width * outputs


def _spatial_transformer(
    positions: int, width: int, depth: int, *, context: int, context_width: int
) -> float:
    """Two projections around ``depth`` blocks that attend to themselves and to a context."""
    self_attention = 8 * positions * width**2 + 4 * positions**2 * width
    cross_attention = (
        4 * positions * width**2
        + 4 * context * context_width * width
        + 4 * positions * context * width
    )
    gated_ffn = 2 * positions * width * (8 * width + 4 * width)
    return 4 * positions * width**2 + depth * (self_attention + cross_attention + gated_ffn)


def unet_flops(config: UNetConfig, height: int, width: int, *, context: int = 77) -> float:
    """Operations of one pass of a UNet over latents of ``height`` x ``width``.

    Args:
        context: positions of the sequence that is attended to.
    """
    widths, time_width = config.widths, 4 * config.widths[0]

    def attention(level: int, positions: int, depth: int) -> float:
        if not depth:
            return 0
        return _spatial_transformer(
            positions,
            widths[level],
            depth,
            context=context,
            context_width=config.context_width,
        )

    def block(level: int, positions: int, inputs: int) -> float:
        resnet = _resnet(positions, inputs, widths[level], time_width)
        return resnet + attention(level, positions, config.transformers[level])

    total: float = 2 * (widths[0] + config.guidance_width) * time_width + 2 * time_width**2
    if config.time_ids:
        added = config.time_ids * config.time_id_width + config.pooled_width
        total += 2 * added * time_width + 2 * time_width**2
    positions, last = height * width, len(widths) - 1
    total += _conv(positions, config.in_channels, widths[0])
    total += _conv(positions, widths[0], config.out_channels)
    skips, before = [widths[0]], widths[0]
    for level, outputs in enumerate(widths):
        for _ in range(config.layers):
            total += block(level, positions, before)
            before = outputs
            skips.append(outputs)
        if level < last:
            positions //= 4
            total += _conv(positions, outputs, outputs)
            skips.append(outputs)
    total += 2 * _resnet(positions, before, before, time_width)
    total += attention(last, positions, config.middle_transformers)
    for level in range(last, -1, -1):
        for _ in range(config.layers + 1):
            total += block(level, positions, before + skips.pop())
            before = widths[level]
        if level:
            positions *= 4
            total += _conv(positions, before, before)
    return total


def _middle(config: VAEConfig, positions: int) -> float:
    width = config.widths[-1]
    attention = 8 * positions * width**2 + 4 * positions**2 * width
    return 2 * _resnet(positions, width, width) + config.middle_attention * attention


def encode_flops(config: VAEConfig, height: int, width: int) -> float:
    """Operations of encoding one picture of ``height`` x ``width`` pixels."""
    positions, before, last = height * width, config.widths[0], len(config.widths) - 1
    total: float = _conv(positions, config.in_channels, before)
    for level, outputs in enumerate(config.widths):
        for _ in range(config.layers):
            total += _resnet(positions, before, outputs)
            before = outputs
        if level < last:
            positions //= 4
            total += _conv(positions, outputs, outputs)
    moments = 2 * config.latent_channels
    total += _middle(config, positions) + _conv(positions, before, moments)
    return total + config.quant * _conv(positions, moments, moments, kernel=1)


def decode_flops(config: VAEConfig, height: int, width: int) -> float:
    """Operations of decoding one picture of ``height`` x ``width`` pixels."""
    latents, before = config.latent_channels, config.widths[-1]
    positions = height * width // config.factor**2
    total: float = config.post_quant * _conv(positions, latents, latents, kernel=1)
    total += _conv(positions, latents, before) + _middle(config, positions)
    for level in range(len(config.widths) - 1, -1, -1):
        for _ in range(config.layers + 1):
            total += _resnet(positions, before, config.widths[level])
            before = config.widths[level]
        if level:
            positions *= 4
            total += _conv(positions, before, before)
    return total + _conv(positions, before, config.in_channels)


def text_flops(config: AnyTextConfig) -> float:
    """Operations of one prompt through a text encoder."""
    return _TEXT_FLOPS[type(config)](config)


def _causal_flops(config: TextEncoderConfig) -> float:
    tower = config.tower
    length, width = tower.length, tower.width
    attention = 8 * length * width**2 + 2 * length**2 * width
    layers = tower.depth * (attention + 4 * length * width * tower.hidden)
    return layers + 2 * width * (config.projection or 0)


def _resampled_flops(config: ResampledTextEncoderConfig) -> float:
    tower, queries = config.tower, config.positions + 1
    length, width = tower.length, tower.width

    def self_attention(positions: int) -> float:
        return 8 * positions * width**2 + 4 * positions**2 * width

    layer = self_attention(length) + 4 * length * width * tower.hidden
    cross_attention = 4 * (queries + length) * width**2 + 4 * queries * length * width
    gathering = self_attention(queries) + cross_attention + 4 * queries * width * config.hidden
    outputs = 2 * queries * width * config.width + 2 * config.width * (config.projection or 0)
    return tower.depth * layer + config.depth * gathering + outputs


_TEXT_FLOPS: dict[type, Callable[[Any], float]] = {
    TextEncoderConfig: _causal_flops,
    ResampledTextEncoderConfig: _resampled_flops,
}


def picture_flops(
    config: LatentDiffusionConfig, height: int, width: int, *, evaluations: int, guided: bool
) -> float:
    """Operations of making one picture of ``height`` x ``width`` pixels from a prompt.

    Args:
        evaluations: of the UNet for one prediction each; twice as many passes where ``guided``.
    """
    passes = 2 if guided and not config.unet.guidance_width else 1
    factor = config.vae.factor
    unet = unet_flops(
        config.unet, height // factor, width // factor, context=config.texts[0].positions
    )
    texts = sum(text_flops(text) for text in config.texts)
    return passes * (texts + evaluations * unet) + decode_flops(config.vae, height, width)
