"""CLIP as OpenAI named its tensors: OpenAI's own weights, open_clip's and KELIP's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.interop.families.base import Family, Hints, other_text, side
from kmm_jax.interop.names import SAME, SCALAR, Rule, linear, norm, patches, torch_attention
from kmm_jax.interop.weights import Weights
from kmm_jax.models.clip.config import CLIP_MEAN, CLIP_STD, CLIPConfig, TextTowerConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.transformer import Activation
from kmm_jax.models.vision import VisionConfig
from kmm_jax.text.tokenizer import Tokenizer

# Of open_clip's model configurations, where a head is not 64 wide.
_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}
_KELIP_VOCABULARY = 98_818
_BLOCKS = r"{prefix}transformer\.resblocks\.(\d+)\."


def vision_config(weights: Weights, hints: Hints, about: Mapping[str, Any]) -> VisionConfig:
    """The image tower of tensors under ``visual.``; ``about`` is of ``open_clip_config.json``."""
    model, picture = about.get("model_cfg", {}), about.get("preprocess_cfg", {})
    said = model.get("vision_cfg", {})
    width, _, _, patch_size = weights.shape("visual.conv1.weight")
    positions, _ = weights.shape("visual.positional_embedding")
    head = said.get("head_width", _HEAD_WIDTHS.get(width, 64))
    if width % head and hints.heads is None:
        raise UserError(f"{weights.path}: an image tower of width {width}; give --heads")
    return VisionConfig(
        image_size=patch_size * side(positions, extra=1),
        patch_size=patch_size,
        width=width,
        depth=weights.count(_BLOCKS.format(prefix=r"visual\.")),
        heads=hints.heads or width // head,
        hidden=weights.shape("visual.transformer.resblocks.0.mlp.c_fc.weight")[0],
        class_token=True,
        pre_norm=True,
        activation=activation_of(weights, hints, model),
        norm_epsilon=(said.get("norm_kwargs") or {}).get("eps", 1e-5),
        mean=tuple(picture.get("mean", CLIP_MEAN)),
        std=tuple(picture.get("std", CLIP_STD)),
    )


def activation_of(weights: Weights, hints: Hints, model: Mapping[str, Any]) -> Activation:
    """What the configuration says; weights alone do not show it.

    Raises:
        UserError: there is no configuration, and nobody said.
    """
    if hints.activation is not None:
        return hints.activation
    if model:
        return "quick_gelu" if model.get("quick_gelu") else "gelu"
    if _of_kelip(weights):
        return "quick_gelu"
    raise UserError(
        f"{weights.path} has no open_clip_config.json beside it, and weights alone do not show "
        "their activation: give --activation quick_gelu for OpenAI's, gelu for LAION's"
    )


def _of_kelip(weights: Weights) -> bool:
    name = "token_embedding.weight"
    return name in weights and weights.shape(name)[0] == _KELIP_VOCABULARY


def _recognises(weights: Weights) -> bool:
    return "visual.conv1.weight" in weights and "text_projection" in weights


def text_config(
    weights: Weights, *, activation: Activation, about: Mapping[str, Any]
) -> TextTowerConfig:
    """The text tower of tensors without a prefix; ``about`` is open_clip's ``text_cfg``."""
    vocabulary, width = weights.shape("token_embedding.weight")
    return TextTowerConfig(
        vocabulary=vocabulary,
        length=weights.shape("positional_embedding")[0],
        width=width,
        depth=weights.count(_BLOCKS.format(prefix="")),
        heads=about.get("heads", width // 64),
        hidden=weights.shape("transformer.resblocks.0.mlp.c_fc.weight")[0],
        activation=activation,
        norm_epsilon=(about.get("norm_kwargs") or {}).get("eps", 1e-5),
        pooling="eos" if about.get("pool_type") == "eos" else "argmax",
        eos_id=about.get("eos_id", 2),
    )


def _config(weights: Weights, hints: Hints) -> CLIPConfig:
    if "visual.layer1.0.conv1.weight" in weights:
        raise UserError(f"{weights.path} is a CLIP with a ResNet, and no model here has one")
    about = weights.about("open_clip_config.json")
    model = about.get("model_cfg", {})
    return CLIPConfig(
        vision=vision_config(weights, hints, about),
        text=text_config(
            weights,
            activation=activation_of(weights, hints, model),
            about=model.get("text_cfg", {}),
        ),
        embedding=weights.shape("text_projection")[1],
        dtype=hints.dtype,
    )


def resblocks(theirs: str, ours: str) -> list[Rule]:
    """A stack of residual blocks with their attention, FFN and norms."""
    layer, stack = f"{theirs}.{{layer}}", f"{ours}.layers"
    return [
        *torch_attention(f"{layer}.attn", f"{stack}.attention"),
        *norm(f"{layer}.ln_1", f"{stack}.attention_norm"),
        *norm(f"{layer}.ln_2", f"{stack}.mlp_norm"),
        *linear(f"{layer}.mlp.c_fc", f"{stack}.mlp.up"),
        *linear(f"{layer}.mlp.c_proj", f"{stack}.mlp.down"),
    ]


def vision_rules(config: VisionConfig) -> list[Rule]:
    """The image tower up to what leaves its last layer."""
    kernel = patches(config.patch_size)
    return [
        Rule("visual.class_embedding", ("vision.class_embedding",), SAME),
        Rule("visual.conv1.weight", ("vision.patch_embedding.kernel",), kernel),
        Rule("visual.positional_embedding", ("vision.positions",), SAME),
        *norm("visual.ln_pre", "vision.pre_norm"),
        *resblocks("visual.transformer.resblocks", "vision.blocks"),
    ]


def text_tower_rules(theirs: str, ours: str) -> list[Rule]:
    """A text tower without its projection, of tensors below a prefix ``theirs``."""
    return [
        Rule(f"{theirs}token_embedding.weight", (f"{ours}.embedding.tokens.embedding",), SAME),
        Rule(f"{theirs}positional_embedding", (f"{ours}.embedding.positions",), SAME),
        *resblocks(f"{theirs}transformer.resblocks", f"{ours}.blocks"),
        *norm(f"{theirs}ln_final", f"{ours}.norm"),
    ]


def text_rules() -> list[Rule]:
    """The text tower and its projection."""
    return [
        *text_tower_rules("", "text"),
        Rule("text_projection", ("text_projection.kernel",), SAME),
        Rule("logit_scale", ("log_scale",), SCALAR),
    ]


def _rules(config: CLIPConfig) -> list[Rule]:
    return [
        *vision_rules(config.vision),
        *norm("visual.ln_post", "vision.norm"),
        Rule("visual.proj", ("image_projection.kernel",), SAME),
        *text_rules(),
    ]


def _refuses(config: ModelConfig) -> str | None:
    if not isinstance(config, CLIPConfig):
        return "only a CLIP has the parts of open_clip's CLIP"
    if reason := other_text(config) or other_vision(config.vision):
        return reason
    kinds = {config.vision.activation, config.text.activation}
    if len(kinds) > 1 or kinds == {"gelu_tanh"}:
        return f"open_clip has one activation for both towers, gelu or quick_gelu; here {kinds}"
    return None


def other_vision(vision: VisionConfig) -> str | None:
    """Why open_clip cannot hold an image tower; None where it can."""
    if vision.stem != "linear" or not vision.pre_norm:
        return (
            "open_clip's CLIP has a linear patch projection and a norm before the first layer: of "
            "the presets here, clip-b32, clip-b16 and clip-l14"
        )
    return None


def _files(config: CLIPConfig, tokenizer: Tokenizer) -> Mapping[str, Any]:
    text = config.text
    assert isinstance(text, TextTowerConfig)  # _refuses saw to it
    return {
        "open_clip_config.json": {
            "model_cfg": {
                "embed_dim": config.embedding,
                "quick_gelu": config.vision.activation == "quick_gelu",
                "init_logit_scale": -math.log(config.temperature),
                "vision_cfg": {**vision_about(config.vision)},
                "text_cfg": {
                    "context_length": text.length,
                    "vocab_size": text.vocabulary,
                    "width": text.width,
                    "heads": text.heads,
                    "layers": text.depth,
                    "mlp_ratio": text.hidden / text.width,
                    "norm_kwargs": {"eps": text.norm_epsilon},
                    "pad_id": tokenizer.pad_id,
                    "pool_type": text.pooling,
                    "eos_id": text.eos_id,
                    "hf_tokenizer_name": "",
                },
            },
            "preprocess_cfg": preprocess_about(config.vision),
        }
    }


def vision_about(vision: VisionConfig) -> dict[str, Any]:
    """An image tower as open_clip's ``vision_cfg``."""
    return {
        "image_size": vision.image_size,
        "layers": vision.depth,
        "width": vision.width,
        "head_width": vision.width // vision.heads,
        "patch_size": vision.patch_size,
        "mlp_ratio": vision.hidden / vision.width,
        "norm_kwargs": {"eps": vision.norm_epsilon},
    }


def preprocess_about(vision: VisionConfig) -> dict[str, Any]:
    """How pictures are prepared, as open_clip's ``preprocess_cfg``."""
    return {
        "mean": list(vision.mean),
        "std": list(vision.std),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }


# Numbers and a mask that OpenAI's TorchScript archives keep beside the parameters.
_BUFFERS = r"input_resolution|context_length|vocab_size|attn_mask|.*\.attn_mask"

FAMILY = Family(
    name="open-clip",
    title="CLIP of OpenAI and open_clip",
    recognises=lambda weights: _recognises(weights) and not _of_kelip(weights),
    config=_config,
    rules=_rules,
    ignored=_BUFFERS,
    files=_files,
    refuses=_refuses,
    weights_name="open_clip_model",
)

KELIP = Family(
    name="kelip",
    title="KELIP, NAVER's Korean and English CLIP",
    recognises=lambda weights: _recognises(weights) and _of_kelip(weights),
    config=_config,
    rules=_rules,
    ignored=_BUFFERS,
    lower_case=True,
)
