"""CoCa as open_clip trained it: two FFNs a multimodal layer, one pooler, a [CLS] of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.interop.families.base import Family, Hints
from kmm_jax.interop.families.open_clip import (
    activation_of,
    preprocess_about,
    resblocks,
    vision_about,
    vision_config,
    vision_rules,
)
from kmm_jax.interop.names import (
    FUSED_BIAS,
    SAME,
    SCALAR,
    TURNED,
    Rule,
    linear,
    norm,
    torch_attention,
)
from kmm_jax.interop.weights import Weights
from kmm_jax.models.coca.config import CoCaConfig, TextDecoderConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.text.tokenizer import Tokenizer

_UNIMODAL = "text.transformer.resblocks"
_MULTIMODAL = "text_decoder.resblocks"
_CROSS = "text_decoder.cross_attn.{layer}"
_POOLER = "visual.attn_pool"
_POOLER_HEADS = 8


def _config(weights: Weights, hints: Hints) -> CoCaConfig:
    if "visual.attn_pool_contrastive.query" in weights:
        raise UserError(
            f"{weights.path} has two poolers (open_clip's untested attentional_pool=parallel or "
            "cascade); only its released form with one is loaded"
        )
    about = weights.about("open_clip_config.json")
    model = about.get("model_cfg", {})
    said = model.get("text_cfg", {})
    vocabulary, width = weights.shape("text.token_embedding.weight")
    queries, _ = weights.shape(f"{_POOLER}.query")
    return CoCaConfig(
        vision=vision_config(weights, hints, about),
        text=TextDecoderConfig(
            vocabulary=vocabulary,
            length=weights.shape("text.positional_embedding")[0] - 1,
            width=width,
            heads=said.get("heads", width // 64),
            hidden=weights.shape(f"{_UNIMODAL}.0.mlp.c_fc.weight")[0],
            unimodal_depth=weights.count(r"text\.transformer\.resblocks\.(\d+)\."),
            multimodal_depth=weights.count(r"text_decoder\.resblocks\.(\d+)\."),
            cross_ffn=True,
            own_cls=True,
            cls_place="last",
            activation=activation_of(weights, hints, model),
            norm_epsilon=1e-5,
            pad_id=said.get("pad_id", 0),
        ),
        pooling="first",
        queries=queries,
        query_norm=True,
        pooler_heads=model.get("vision_cfg", {}).get("attn_pooler_heads", _POOLER_HEADS),
        embedding=weights.shape("text.text_projection")[1],
        dtype=hints.dtype,
    )


def _pooler_rules() -> list[Rule]:
    ours = "generative_pooler"
    projections = [
        Rule(f"{_POOLER}.attn.{short}_proj_weight", (f"{ours}.attention.{name}.kernel",), TURNED)
        for short, name in (("q", "query"), ("k", "key"), ("v", "value"))
    ]
    biases = tuple(f"{ours}.attention.{name}.bias" for name in ("query", "key", "value"))
    return [
        Rule(f"{_POOLER}.query", (f"{ours}.queries",), SAME),
        *projections,
        Rule(f"{_POOLER}.attn.in_proj_bias", biases, FUSED_BIAS),
        *linear(f"{_POOLER}.attn.out_proj", f"{ours}.attention.out"),
        *norm(f"{_POOLER}.ln_q", f"{ours}.query_norm"),
        # The norm of what is pooled is that of the encoder's output, which goes nowhere else.
        *norm(f"{_POOLER}.ln_k", "vision.norm"),
        *norm("visual.ln_post", f"{ours}.norm"),
    ]


def _rules(config: CoCaConfig) -> list[Rule]:
    both = "text.multimodal.layers"
    if config.text.width == config.vision.width:
        raise UserError(
            "a pooler as wide as the encoder keeps its projections in one tensor in PyTorch, which "
            "no released CoCa of open_clip does"
        )
    return [
        *vision_rules(config.vision),
        *_pooler_rules(),
        Rule("visual.proj", ("image_projection.kernel",), SAME),
        Rule("text.token_embedding.weight", ("text.embedding.tokens.embedding",), SAME),
        Rule("text.positional_embedding", ("text.embedding.positions",), SAME),
        Rule("text.cls_emb", ("text.cls_embedding",), SAME),
        *resblocks(_UNIMODAL, "text.unimodal"),
        *norm("text.ln_final", "text.cls_norm"),
        Rule("text.text_projection", ("text_projection.kernel",), SAME),
        *resblocks(_MULTIMODAL, "text.multimodal"),
        *torch_attention(f"{_CROSS}.attn", f"{both}.cross_attention"),
        *norm(f"{_CROSS}.ln_1", f"{both}.cross_norm"),
        *norm(f"{_CROSS}.ln_1_kv", f"{both}.context_norm"),
        *norm(f"{_CROSS}.ln_2", f"{both}.cross_mlp_norm"),
        *linear(f"{_CROSS}.mlp.c_fc", f"{both}.cross_mlp.up"),
        *linear(f"{_CROSS}.mlp.c_proj", f"{both}.cross_mlp.down"),
        *norm("text_decoder.ln_final", "text.norm"),
        Rule("text_decoder.text_projection", ("text.logits.kernel",), SAME),
        Rule("logit_scale", ("log_scale",), SCALAR),
    ]


def _refuses(config: ModelConfig) -> str | None:
    if not isinstance(config, CoCaConfig):
        return "only a CoCa has the parts of open_clip's CoCa"
    text = config.text
    form = (config.pooling, config.query_norm, text.cross_ffn, text.own_cls, text.cls_place)
    if form != ("first", True, True, True, "last") or text.tie_embeddings:
        return (
            "open_clip's CoCa is another network than the paper's (two FFNs a multimodal layer, "
            "one pooler): only weights that came from it, or were trained in its form, go back"
        )
    return None


def _files(config: CoCaConfig, tokenizer: Tokenizer) -> Mapping[str, Any]:
    text = config.text
    sizes = {
        "context_length": text.length,
        "vocab_size": text.vocabulary,
        "width": text.width,
        "heads": text.heads,
        "mlp_ratio": text.hidden / text.width,
    }
    return {
        "open_clip_config.json": {
            "model_cfg": {
                "embed_dim": config.embedding,
                "quick_gelu": text.activation == "quick_gelu",
                "init_logit_scale": -math.log(config.temperature),
                "vision_cfg": {
                    **vision_about(config.vision),
                    "attentional_pool": True,
                    "attn_pooler_heads": config.pooler_heads,
                    "attn_pooler_queries": config.queries,
                    "output_tokens": True,
                },
                "text_cfg": {
                    **sizes,
                    "layers": text.unimodal_depth,
                    "embed_cls": True,
                    "output_tokens": True,
                    "pad_id": text.pad_id,
                },
                "multimodal_cfg": {
                    **sizes,
                    "layers": text.multimodal_depth,
                    "attn_pooler_heads": config.pooler_heads,
                },
                "custom_text": True,
            },
            "preprocess_cfg": preprocess_about(config.vision),
        }
    }


FAMILY = Family(
    name="open-clip-coca",
    title="CoCa of open_clip",
    recognises=lambda weights: "text_decoder.text_projection" in weights,
    config=_config,
    rules=_rules,
    ignored=r".*attn_mask",
    files=_files,
    refuses=_refuses,
    weights_name="open_clip_model",
)
