"""Forward floating-point operations of one example, counted by hand.

A multiply and an add are two operations. Matrix products only; a causal attention counts half its
square, as the work that must be done, so that MFU is not flattered. Counting by hand and not by
XLA keeps the number the same whatever the compiler fuses or rematerialises.
"""

from __future__ import annotations

from kmm_jax.models.clip.config import CLIPConfig
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.stem import stem_channels
from kmm_jax.models.vision import VisionConfig


def _layers(
    *, depth: int, width: int, hidden: int, length: int, causal: bool, context: int = 0
) -> float:
    """``depth`` layers over ``length`` positions, cross-attending to ``context`` of them."""
    attention = 8 * length * width**2 + 4 * length**2 * width / (2 if causal else 1)
    cross = (
        4 * length * width**2 + 4 * context * width**2 + 4 * length * context * width
        if context
        else 0
    )
    return depth * (attention + cross + 4 * length * width * hidden)


def _pooler(*, queries: int, width: int, length: int, context_width: int) -> float:
    projections = 4 * queries * width**2 + 4 * length * context_width * width
    return projections + 4 * queries * length * width


def _stem(config: VisionConfig) -> float:
    if config.stem == "linear":
        return 2 * config.patches * 3 * config.patch_size**2 * config.width
    total, side, inputs = 2.0 * config.patches * config.width**2, config.image_size, 3
    for outputs in stem_channels(config.patch_size, config.width):
        side //= 2
        total += 2 * side**2 * 9 * inputs * outputs
        inputs = outputs
    return total


def _vision(config: VisionConfig) -> float:
    tokens = config.patches + config.class_token
    return _stem(config) + _layers(
        depth=config.depth,
        width=config.width,
        hidden=config.hidden,
        length=tokens,
        causal=False,
    )


def _coca(config: CoCaConfig) -> dict[str, float]:
    vision, text, queries = config.vision, config.text, config.queries
    image = _vision(vision) + _pooler(
        queries=queries, width=text.width, length=vision.patches, context_width=vision.width
    )
    if config.pooling == "cascade":
        image += _pooler(queries=1, width=text.width, length=queries, context_width=text.width)
    elif config.pooling == "parallel":
        image += _pooler(
            queries=1, width=text.width, length=vision.patches, context_width=vision.width
        )
    image += 2 * config.embedding * (vision.width if config.pooling == "cls" else text.width)
    unimodal = _layers(
        depth=text.unimodal_depth,
        width=text.width,
        hidden=text.hidden,
        length=text.length + 1,
        causal=True,
    )
    multimodal = _layers(
        depth=text.multimodal_depth,
        width=text.width,
        hidden=text.hidden,
        length=text.length,
        causal=True,
        context=queries,
    )
    logits = 2 * text.length * text.width * text.vocabulary
    return {
        "image": image,
        "text": unimodal + 2 * config.embedding * text.width,
        "caption": multimodal + logits,
    }


def _clip(config: CLIPConfig) -> dict[str, float]:
    text = config.text
    layers = _layers(
        depth=text.depth, width=text.width, hidden=text.hidden, length=text.length, causal=True
    )
    return {
        "image": _vision(config.vision) + 2 * config.embedding * config.vision.width,
        "text": layers + 2 * config.embedding * text.width,
    }


def forward_flops(config: ModelConfig) -> dict[str, float]:
    """Operations of one example's forward pass, by part: image, text and, for CoCa, caption."""
    return _coca(config) if isinstance(config, CoCaConfig) else _clip(config)


def forward_flops_total(config: ModelConfig) -> float:
    """Operations of one example's whole forward pass; a training step takes three times as many."""
    return sum(forward_flops(config).values())
