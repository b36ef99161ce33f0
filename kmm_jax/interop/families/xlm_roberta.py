"""XLM-RoBERTa as Hugging Face names its tensors: alone, and in M-CLIP with its projection.

Both are a text tower; the images are those of a CLIP beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kmm_jax.errors import UserError
from kmm_jax.interop.families.base import Family, Hints, activation
from kmm_jax.interop.names import SAME, Rule, linear, norm
from kmm_jax.interop.weights import Weights
from kmm_jax.models.clip.config import CLIPConfig, XLMRobertaConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.text.tokenizer import Tokenizer

Projection = Literal["linear", "biased", "mlp"]

# RoBERTa is the same network with another vocabulary.
_MODEL_TYPES = ("xlm-roberta", "roberta")
# What the configurations of the published models say, for weights that come without one.
_PUBLISHED = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "pad_token_id": 1}
_PUBLISHED_SIZES = {(768, 12): "xlm-roberta-base", (1024, 24): "xlm-roberta-large"}
_PUBLISHED_VOCABULARY = 250_002
# As CLIP's own texts: captions are short, and a text costs what its longest may.
_LENGTH = 77
_MCLIP = "transformer."

UNREAD = r"(embeddings\.(position_ids|token_type_ids)|pooler\.dense\.(weight|bias))"
"""A tower's tensors that hold nothing to keep: numbers in their order, and a pooler that no
sentence goes through."""


def tower(
    weights: Weights,
    prefix: str,
    hints: Hints,
    about: Mapping[str, Any],
    *,
    pooling: Literal["mean", "first"] = "mean",
    projection: Projection,
) -> XLMRobertaConfig:
    """The tower of the tensors below a prefix.

    Args:
        about: its configuration in Hugging Face's terms, or the part of it that is said; empty for
            the published models'.

    Raises:
        UserError: it is another network with tensors of the same names, or positions are too few
            for the length.
    """
    kind = about.get("model_type", _MODEL_TYPES[0])
    if kind not in _MODEL_TYPES or about.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            f"{weights.path} is a {kind} by its config.json, and of such encoders only "
            f"{' and '.join(_MODEL_TYPES)} are known here"
        )
    said = {**_PUBLISHED, **about}
    vocabulary, width = weights.shape(f"{prefix}embeddings.word_embeddings.weight")
    positions, _ = weights.shape(f"{prefix}embeddings.position_embeddings.weight")
    most = positions - said["pad_token_id"] - 1
    if (hints.length or 0) > most:
        raise UserError(
            f"{weights.path} has positions for {most} tokens, fewer than --length {hints.length}"
        )
    return XLMRobertaConfig(
        vocabulary=vocabulary,
        length=hints.length or min(_LENGTH, most),
        width=width,
        depth=weights.count(prefix.replace(".", r"\.") + r"encoder\.layer\.(\d+)\."),
        heads=said.get("num_attention_heads", width // 64),
        hidden=weights.shape(f"{prefix}encoder.layer.0.intermediate.dense.weight")[0],
        positions=positions,
        token_types=weights.shape(f"{prefix}embeddings.token_type_embeddings.weight")[0],
        activation=activation(said["hidden_act"]),
        norm_epsilon=said["layer_norm_eps"],
        pad_id=said["pad_token_id"],
        pooling=pooling,
        projection=projection,
    )


def tower_rules(prefix: str, tower: str = "text") -> list[Rule]:
    """The tower without a projection; ``tower`` is its name here."""
    theirs, ours = f"{prefix}embeddings", f"{tower}.embedding"
    layer, stack = f"{prefix}encoder.layer.{{layer}}", f"{tower}.blocks.layers"
    return [
        Rule(f"{theirs}.word_embeddings.weight", (f"{ours}.tokens.embedding",), SAME),
        Rule(f"{theirs}.position_embeddings.weight", (f"{ours}.positions",), SAME),
        Rule(f"{theirs}.token_type_embeddings.weight", (f"{ours}.token_types",), SAME),
        *norm(f"{theirs}.LayerNorm", f"{ours}.norm"),
        *(
            rule
            for name in ("query", "key", "value")
            for rule in linear(f"{layer}.attention.self.{name}", f"{stack}.attention.{name}")
        ),
        *linear(f"{layer}.attention.output.dense", f"{stack}.attention.out"),
        *norm(f"{layer}.attention.output.LayerNorm", f"{stack}.attention_norm"),
        *linear(f"{layer}.intermediate.dense", f"{stack}.mlp.up"),
        *linear(f"{layer}.output.dense", f"{stack}.mlp.down"),
        *norm(f"{layer}.output.LayerNorm", f"{stack}.mlp_norm"),
    ]


def tower_about(text: XLMRobertaConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """A tower as the ``config.json`` of an XLMRobertaModel."""
    names = {"gelu_tanh": "gelu_pytorch_tanh"}
    return {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "vocab_size": text.vocabulary,
        "hidden_size": text.width,
        "num_hidden_layers": text.depth,
        "num_attention_heads": text.heads,
        "intermediate_size": text.hidden,
        "hidden_act": names.get(text.activation, text.activation),
        "max_position_embeddings": text.positions,
        "type_vocab_size": text.token_types,
        "layer_norm_eps": text.norm_epsilon,
        "pad_token_id": text.pad_id,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
    }


def published_name(text: XLMRobertaConfig) -> str | None:
    """The name on the Hub of a model of these sizes, or None."""
    fixed = {
        "vocabulary": _PUBLISHED_VOCABULARY,
        "heads": text.width // 64,
        "hidden": 4 * text.width,
        "positions": 514,
        "token_types": 1,
        "activation": "gelu",
        "norm_epsilon": 1e-5,
        "pad_id": 1,
    }
    if any(getattr(text, name) != value for name, value in fixed.items()):
        return None
    return _PUBLISHED_SIZES.get((text.width, text.depth))


def no_xlm_roberta(config: ModelConfig) -> str | None:
    """Why a model has no such tower; None where it has one."""
    if isinstance(config, CLIPConfig) and isinstance(config.text, XLMRobertaConfig):
        return None
    return "only a CLIP whose texts go through an XLM-RoBERTa has its parts"


def _joined(text: XLMRobertaConfig, embedding: int, hints: Hints) -> CLIPConfig:
    image = hints.image
    assert image is not None  # whoever reads a text tower alone gives it
    return CLIPConfig(
        vision=image.vision,
        text=text,
        embedding=embedding,
        temperature=image.temperature,
        dtype=hints.dtype,
    )


def _bare_config(weights: Weights, hints: Hints) -> CLIPConfig:
    assert hints.image is not None  # whoever reads a text tower alone gives it
    text = tower(weights, "", hints, weights.about("config.json"), projection="biased")
    return _joined(text, hints.image.embedding, hints)


def _mclip_config(weights: Weights, hints: Hints) -> CLIPConfig:
    base = str(weights.about("config.json").get("modelBase", "xlm-roberta"))
    if "xlm-roberta" not in base.lower():
        raise UserError(
            f"{weights.path} is an M-CLIP over {base}; only those over XLM-RoBERTa are known here"
        )
    text = tower(weights, _MCLIP, hints, {}, projection="biased")
    return _joined(text, weights.shape("LinearTransformation.weight")[0], hints)


def _mclip_refuses(config: ModelConfig) -> str | None:
    if reason := no_xlm_roberta(config):
        return reason
    assert isinstance(config, CLIPConfig) and isinstance(config.text, XLMRobertaConfig)
    if (config.text.pooling, config.text.projection) != ("mean", "biased"):
        return "M-CLIP projects the mean of a text by a linear layer with a bias"
    if published_name(config.text) is None:
        return (
            "M-CLIP's code knows its tower by the name xlm-roberta-base or xlm-roberta-large, and "
            "this one has other sizes"
        )
    return None


def _mclip_files(config: CLIPConfig, tokenizer: Tokenizer) -> Mapping[str, Any]:
    text = config.text
    assert isinstance(text, XLMRobertaConfig)  # _mclip_refuses saw to it
    return {
        "config.json": {
            "architectures": ["MultilingualCLIP"],
            "model_type": "M-CLIP",
            "modelBase": published_name(text),
            "transformerDimensions": text.width,
            "numDims": config.embedding,
        }
    }


FAMILY = Family(
    name="xlm-roberta",
    title="XLMRobertaModel of Hugging Face",
    recognises=lambda weights: "embeddings.word_embeddings.weight" in weights,
    config=_bare_config,
    rules=lambda config: tower_rules(""),
    ignored=UNREAD,
    files=lambda config, tokenizer: {"config.json": tower_about(config.text, tokenizer)},
    refuses=no_xlm_roberta,
    text_alone=True,
)

MCLIP = Family(
    name="m-clip",
    title="M-CLIP's text towers (FreddeFrallan/Multilingual-CLIP)",
    recognises=lambda weights: "LinearTransformation.weight" in weights,
    config=_mclip_config,
    rules=lambda config: [
        *tower_rules(_MCLIP),
        *linear("LinearTransformation", "text_projection"),
    ],
    ignored=r"transformer\." + UNREAD,
    files=_mclip_files,
    refuses=_mclip_refuses,
    text_alone=True,
)
