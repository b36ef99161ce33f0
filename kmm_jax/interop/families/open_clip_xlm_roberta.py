"""open_clip's CLIP with an XLM-RoBERTa of Hugging Face for its texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from kmm_jax.errors import UserError
from kmm_jax.interop.families.base import FOLDER, Family, Hints
from kmm_jax.interop.families.open_clip import (
    other_vision,
    preprocess_about,
    vision_about,
    vision_config,
    vision_rules,
)
from kmm_jax.interop.families.xlm_roberta import (
    UNREAD,
    no_xlm_roberta,
    published_name,
    tower,
    tower_about,
    tower_rules,
)
from kmm_jax.interop.names import SAME, SCALAR, Rule, linear, norm
from kmm_jax.interop.weights import Weights
from kmm_jax.models.clip.config import CLIPConfig, XLMRobertaConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.text.tokenizer import Tokenizer

_TOWER = "text.transformer."
_POOLINGS: dict[str, Literal["mean", "first"]] = {
    "mean_pooler": "mean",
    "cls_last_hidden_state_pooler": "first",
}


def _config(weights: Weights, hints: Hints) -> CLIPConfig:
    about = weights.about("open_clip_config.json")
    said = about.get("model_cfg", {}).get("text_cfg", {})
    # Older versions of open_clip had the name without hf_.
    pooler = said.get("hf_pooler_type", said.get("pooler_type", "mean_pooler"))
    if pooler not in _POOLINGS:
        raise UserError(
            f"{weights.path} reads its texts by open_clip's {pooler}; only "
            f"{' and '.join(_POOLINGS)} are known here"
        )
    last = "text.proj.weight" if "text.proj.weight" in weights else "text.proj.2.weight"
    if last not in weights:
        raise UserError(
            f"{weights.path} has no projection of its texts (text.proj), without which no released "
            "model of open_clip is"
        )
    beside = weights.about("config.json")
    own = beside if beside.get("model_type") in ("xlm-roberta", "roberta") else {}
    length = hints.length or said.get("context_length")
    text = tower(
        weights,
        _TOWER,
        Hints(length=length),
        own,
        pooling=_POOLINGS[pooler],
        projection="linear" if last == "text.proj.weight" else "mlp",
    )
    embedding, width = weights.shape(last)
    if text.projection == "mlp" and width != (text.width + embedding) // 2:
        raise UserError(f"{weights.path}: text.proj is {width} wide inside, as open_clip's is not")
    return CLIPConfig(
        vision=vision_config(weights, hints, about),
        text=text,
        embedding=embedding,
        dtype=hints.dtype,
    )


def _rules(config: CLIPConfig) -> list[Rule]:
    text = config.text
    assert isinstance(text, XLMRobertaConfig)  # _config and _refuses saw to it
    projection = linear("text.proj", "text_projection", bias=False)
    if text.projection == "mlp":
        projection = [
            *linear("text.proj.0", "text_projection.up", bias=False),
            *linear("text.proj.2", "text_projection.down", bias=False),
        ]
    return [
        *vision_rules(config.vision),
        *norm("visual.ln_post", "vision.norm"),
        Rule("visual.proj", ("image_projection.kernel",), SAME),
        *tower_rules(_TOWER),
        *projection,
        Rule("logit_scale", ("log_scale",), SCALAR),
    ]


def _refuses(config: ModelConfig) -> str | None:
    if reason := no_xlm_roberta(config):
        return reason
    assert isinstance(config, CLIPConfig) and isinstance(config.text, XLMRobertaConfig)
    if config.text.projection == "biased":
        return "open_clip projects texts without a bias, and this model has one, as M-CLIP's do"
    if config.vision.activation == "gelu_tanh":
        return "open_clip's image tower has gelu or quick_gelu, and this one gelu_tanh"
    return other_vision(config.vision)


def _files(config: CLIPConfig, tokenizer: Tokenizer) -> Mapping[str, Any]:
    text = config.text
    assert isinstance(text, XLMRobertaConfig)  # _refuses saw to it
    poolers = {pooling: name for name, pooling in _POOLINGS.items()}
    # open_clip takes the tower's sizes from a name on the Hub, or from a folder with config.json.
    name = published_name(text) or FOLDER
    return {
        "config.json": tower_about(text, tokenizer),
        "open_clip_config.json": {
            "model_cfg": {
                "embed_dim": config.embedding,
                "quick_gelu": config.vision.activation == "quick_gelu",
                "init_logit_scale": -math.log(config.temperature),
                "vision_cfg": vision_about(config.vision),
                "text_cfg": {
                    "context_length": text.length,
                    "hf_model_name": name,
                    "hf_tokenizer_name": name,
                    "hf_pooler_type": poolers[text.pooling],
                    "hf_proj_type": text.projection,
                },
            },
            "preprocess_cfg": preprocess_about(config.vision),
        },
    }


FAMILY = Family(
    name="open-clip-xlm-roberta",
    title="CLIP of open_clip with an XLM-RoBERTa",
    recognises=lambda weights: (
        "visual.conv1.weight" in weights and f"{_TOWER}embeddings.word_embeddings.weight" in weights
    ),
    config=_config,
    rules=_rules,
    ignored=r"text\.transformer\." + UNREAD,
    files=_files,
    refuses=_refuses,
    weights_name="open_clip_model",
)
