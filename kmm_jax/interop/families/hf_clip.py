"""``CLIPModel`` of Hugging Face's transformers, as OpenAI, LAION and others published weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kmm_jax.interop.families.base import Family, Hints, activation, other_text, side
from kmm_jax.interop.names import SAME, SCALAR, TURNED, Rule, linear, norm, patches
from kmm_jax.interop.weights import Weights
from kmm_jax.models.clip.config import CLIP_MEAN, CLIP_STD, CLIPConfig, TextTowerConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.vision import VisionConfig
from kmm_jax.text.tokenizer import Tokenizer

# What CLIPVisionConfig and CLIPTextConfig leave out of a file where it is their default.
_VISION = {"num_attention_heads": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_TEXT = {**_VISION, "num_attention_heads": 8, "eos_token_id": 49_407}
_ARGMAX = 2  # as eos_token_id: CLIPTextModel then reads at the largest id
_LAYERS = r"{tower}\.encoder\.layers\.(\d+)\."


def _recognises(weights: Weights) -> bool:
    return "vision_model.embeddings.class_embedding" in weights and "logit_scale" in weights


def _config(weights: Weights, hints: Hints) -> CLIPConfig:
    about = weights.about("config.json")
    vision = {**_VISION, **about.get("vision_config", {})}
    text = {**_TEXT, **about.get("text_config", {})}
    picture = weights.about("preprocessor_config.json")
    width, _, _, patch_size = weights.shape("vision_model.embeddings.patch_embedding.weight")
    positions, _ = weights.shape("vision_model.embeddings.position_embedding.weight")
    vocabulary, text_width = weights.shape("text_model.embeddings.token_embedding.weight")
    length, _ = weights.shape("text_model.embeddings.position_embedding.weight")
    first = "{tower}.encoder.layers.0.mlp.fc1.weight"
    return CLIPConfig(
        vision=VisionConfig(
            image_size=patch_size * side(positions, extra=1),
            patch_size=patch_size,
            width=width,
            depth=weights.count(_LAYERS.format(tower="vision_model")),
            heads=hints.heads or vision["num_attention_heads"],
            hidden=weights.shape(first.format(tower="vision_model"))[0],
            class_token=True,
            pre_norm=True,
            activation=hints.activation or activation(vision["hidden_act"]),
            norm_epsilon=vision["layer_norm_eps"],
            mean=tuple(picture.get("image_mean", CLIP_MEAN)),
            std=tuple(picture.get("image_std", CLIP_STD)),
        ),
        text=TextTowerConfig(
            vocabulary=vocabulary,
            length=length,
            width=text_width,
            depth=weights.count(_LAYERS.format(tower="text_model")),
            heads=text["num_attention_heads"],
            hidden=weights.shape(first.format(tower="text_model"))[0],
            activation=hints.activation or activation(text["hidden_act"]),
            norm_epsilon=text["layer_norm_eps"],
            pooling="argmax" if text["eos_token_id"] == _ARGMAX else "eos",
            eos_id=text["eos_token_id"],
        ),
        embedding=weights.shape("visual_projection.weight")[0],
        dtype=hints.dtype,
    )


def _tower(theirs: str, ours: str) -> list[Rule]:
    layer, stack = f"{theirs}.encoder.layers.{{layer}}", f"{ours}.blocks.layers"
    attention = (("q", "query"), ("k", "key"), ("v", "value"), ("out", "out"))
    return [
        rule
        for rules in (
            *(
                linear(f"{layer}.self_attn.{short}_proj", f"{stack}.attention.{name}")
                for short, name in attention
            ),
            norm(f"{layer}.layer_norm1", f"{stack}.attention_norm"),
            norm(f"{layer}.layer_norm2", f"{stack}.mlp_norm"),
            linear(f"{layer}.mlp.fc1", f"{stack}.mlp.up"),
            linear(f"{layer}.mlp.fc2", f"{stack}.mlp.down"),
        )
        for rule in rules
    ]


def text_rules(theirs: str, ours: str) -> list[Rule]:
    """The table of a text tower, without a projection."""
    return [
        Rule(
            f"{theirs}.embeddings.token_embedding.weight",
            (f"{ours}.embedding.tokens.embedding",),
            SAME,
        ),
        Rule(
            f"{theirs}.embeddings.position_embedding.weight", (f"{ours}.embedding.positions",), SAME
        ),
        *_tower(theirs, ours),
        *norm(f"{theirs}.final_layer_norm", f"{ours}.norm"),
    ]


def _rules(config: CLIPConfig) -> list[Rule]:
    images = "vision_model.embeddings"
    kernel = patches(config.vision.patch_size)
    return [
        Rule(f"{images}.class_embedding", ("vision.class_embedding",), SAME),
        Rule(f"{images}.patch_embedding.weight", ("vision.patch_embedding.kernel",), kernel),
        Rule(f"{images}.position_embedding.weight", ("vision.positions",), SAME),
        *norm("vision_model.pre_layrnorm", "vision.pre_norm"),  # spelt so there
        *_tower("vision_model", "vision"),
        *norm("vision_model.post_layernorm", "vision.norm"),
        Rule("visual_projection.weight", ("image_projection.kernel",), TURNED),
        *text_rules("text_model", "text"),
        Rule("text_projection.weight", ("text_projection.kernel",), TURNED),
        Rule("logit_scale", ("log_scale",), SCALAR),
    ]


def _refuses(config: ModelConfig) -> str | None:
    if not isinstance(config, CLIPConfig):
        return "only a CLIP has the parts of CLIPModel"
    if reason := other_text(config):
        return reason
    if config.vision.stem != "linear" or not config.vision.pre_norm:
        return (
            "CLIPModel has a linear patch projection and a norm before the first layer: of the "
            "presets here, clip-b32, clip-b16 and clip-l14"
        )
    return None


def _files(config: CLIPConfig, tokenizer: Tokenizer) -> Mapping[str, Any]:
    vision, text = config.vision, config.text
    assert isinstance(text, TextTowerConfig)  # _refuses saw to it
    names = {"gelu_tanh": "gelu_pytorch_tanh"}
    marks = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    return {
        "config.json": {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": config.embedding,
            "logit_scale_init_value": -math.log(config.temperature),
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": vision.width,
                "intermediate_size": vision.hidden,
                "num_hidden_layers": vision.depth,
                "num_attention_heads": vision.heads,
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "projection_dim": config.embedding,
                "hidden_act": names.get(vision.activation, vision.activation),
                "layer_norm_eps": vision.norm_epsilon,
            },
            "text_config": {
                "model_type": "clip_text_model",
                "vocab_size": text.vocabulary,
                "hidden_size": text.width,
                "intermediate_size": text.hidden,
                "num_hidden_layers": text.depth,
                "num_attention_heads": text.heads,
                "max_position_embeddings": text.length,
                "projection_dim": config.embedding,
                "hidden_act": names.get(text.activation, text.activation),
                "layer_norm_eps": text.norm_epsilon,
                "eos_token_id": _ARGMAX if text.pooling == "argmax" else text.eos_id,
                **marks,
            },
        },
        "preprocessor_config.json": {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": vision.image_size},
            "resample": 3,  # bicubic
            "do_center_crop": True,
            "crop_size": {"height": vision.image_size, "width": vision.image_size},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(vision.mean),
            "image_std": list(vision.std),
        },
    }


FAMILY = Family(
    name="hf-clip",
    title="CLIPModel of Hugging Face",
    recognises=_recognises,
    config=_config,
    rules=_rules,
    ignored=r".*\.position_ids",
    files=_files,
    refuses=_refuses,
)
