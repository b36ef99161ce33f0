"""SLIP's released models, and the CLIPs beside them: a timm image tower, OpenAI's text tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kmm_jax.interop.families.base import Family, Hints, side
from kmm_jax.interop.families.open_clip import text_config, text_rules
from kmm_jax.interop.names import (
    ROW,
    SAME,
    TABLE,
    Rule,
    fused_projections,
    linear,
    norm,
    patches,
)
from kmm_jax.interop.weights import Weights
from kmm_jax.models.clip.config import CLIPConfig, TextTowerConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.slip.config import IMAGENET_MEAN, IMAGENET_STD, SLIPConfig, ViewHeadConfig
from kmm_jax.models.vision import VisionConfig

# The authors' small tower is MoCo v3's, whose heads are 32 wide; the others' are timm's.
_HEADS = {384: 12}


def _config(weights: Weights, hints: Hints) -> CLIPConfig | SLIPConfig:
    width, _, _, patch_size = weights.shape("visual.patch_embed.proj.weight")
    _, positions, _ = weights.shape("visual.pos_embed")
    vision = VisionConfig(
        image_size=patch_size * side(positions, extra=1),
        patch_size=patch_size,
        width=width,
        depth=weights.count(r"visual\.blocks\.(\d+)\."),
        heads=hints.heads or _HEADS.get(width, width // 64),
        hidden=weights.shape("visual.blocks.0.mlp.fc1.weight")[0],
        class_token=True,
        activation=hints.activation or "gelu",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    text = text_config(weights, activation=hints.activation or "quick_gelu", about={})
    clip = CLIPConfig(
        vision=vision,
        text=text,
        embedding=weights.shape("text_projection")[1],
        dtype=hints.dtype,
    )
    if "image_mlp.layer1.weight" not in weights:
        return clip
    embedding, hidden = weights.shape("image_mlp.layer3.weight")
    return SLIPConfig(
        vision=vision,
        text=text,
        embedding=clip.embedding,
        head=ViewHeadConfig(hidden=hidden, embedding=embedding),
        dtype=hints.dtype,
    )


def _clip_rules(config: CLIPConfig) -> list[Rule]:
    layer, stack = "visual.blocks.{layer}", "vision.blocks.layers"
    kernel = patches(config.vision.patch_size)
    qkv = f"{layer}.attn.qkv"
    return [
        Rule("visual.cls_token", ("vision.class_embedding",), ROW),
        Rule("visual.pos_embed", ("vision.positions",), TABLE),
        Rule("visual.patch_embed.proj.weight", ("vision.patch_embedding.kernel",), kernel),
        Rule("visual.patch_embed.proj.bias", ("vision.patch_embedding.bias",), SAME),
        *fused_projections(f"{qkv}.weight", f"{qkv}.bias", f"{stack}.attention"),
        *linear(f"{layer}.attn.proj", f"{stack}.attention.out"),
        *norm(f"{layer}.norm1", f"{stack}.attention_norm"),
        *norm(f"{layer}.norm2", f"{stack}.mlp_norm"),
        *linear(f"{layer}.mlp.fc1", f"{stack}.mlp.up"),
        *linear(f"{layer}.mlp.fc2", f"{stack}.mlp.down"),
        *norm("visual.norm", "vision.norm"),
        Rule("image_projection", ("image_projection.kernel",), SAME),
        *text_rules(),
    ]


def _rules(config: CLIPConfig | SLIPConfig) -> list[Rule]:
    if isinstance(config, CLIPConfig):
        return _clip_rules(config)
    below = [
        Rule(rule.theirs, tuple(f"clip.{name}" for name in rule.ours), rule.layout)
        for rule in _clip_rules(config.clip)
    ]
    head = "image_mlp"
    return [
        *below,
        *linear(f"{head}.layer1", "view_head.first"),
        *norm(f"{head}.bn1", "view_head.first_norm"),
        *linear(f"{head}.layer2", "view_head.second"),
        *norm(f"{head}.bn2", "view_head.second_norm"),
        *linear(f"{head}.layer3", "view_head.last"),
    ]


def _constants(config: CLIPConfig | SLIPConfig) -> Mapping[str, Any]:
    """A fresh batch norm's statistics: the head is for training, where the batch has its own."""
    if isinstance(config, CLIPConfig):
        return {}
    hidden = config.head.hidden
    return {
        f"image_mlp.{name}.{kind}": value
        for name in ("bn1", "bn2")
        for kind, value in (
            ("running_mean", np.zeros(hidden, np.float32)),
            ("running_var", np.ones(hidden, np.float32)),
            ("num_batches_tracked", np.zeros((), np.int64)),
        )
    }


def _refuses(config: ModelConfig) -> str | None:
    if not isinstance(config, CLIPConfig | SLIPConfig):
        return "only a SLIP or a CLIP has the parts of SLIP's models"
    vision, text = config.vision, config.text
    if vision.pre_norm or vision.stem != "linear" or vision.activation != "gelu":
        return "SLIP's image tower is timm's: a linear stem with a bias, no norm before, gelu"
    if not isinstance(text, TextTowerConfig) or (text.activation, text.pooling) != (
        "quick_gelu",
        "argmax",
    ):
        return "SLIP's text tower is OpenAI's: quick_gelu, read at the largest id"
    return None


def _recognises(weights: Weights) -> bool:
    return "visual.patch_embed.proj.weight" in weights and "text_projection" in weights


FAMILY = Family(
    name="slip",
    title="SLIP's models (facebookresearch/SLIP)",
    recognises=_recognises,
    config=_config,
    rules=_rules,
    ignored=r"image_mlp\.bn\d\.(running_mean|running_var|num_batches_tracked)",
    files=lambda config, tokenizer: {},
    refuses=_refuses,
    constants=_constants,
)
