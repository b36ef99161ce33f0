"""Forward floating-point operations of one example, counted by hand.

A multiply and an add are two operations. Matrix products only; a causal attention counts half its
square, as the work that must be done, so that MFU is not flattered. Counting by hand and not by
XLA keeps the number the same whatever the compiler fuses or rematerialises.
"""

from __future__ import annotations

from kmm_jax.models.attributes.config import AttributesConfig
from kmm_jax.models.clip.config import CLIPConfig, XLMRobertaConfig
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.oner.config import ImageInputConfig, OneRConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.slip.config import VIEWS, SLIPConfig
from kmm_jax.models.stem import stem_channels
from kmm_jax.models.vision import VisionConfig


def _layers(
    *,
    depth: int,
    width: int,
    hidden: int,
    length: int,
    causal: bool,
    context: int = 0,
    ffns: int = 1,
) -> float:
    """``depth`` layers over ``length`` positions, cross-attending to ``context`` of them."""
    attention = 8 * length * width**2 + 4 * length**2 * width / (2 if causal else 1)
    cross = (
        4 * length * width**2 + 4 * context * width**2 + 4 * length * context * width
        if context
        else 0
    )
    return depth * (attention + cross + ffns * 4 * length * width * hidden)


def _pooler(*, queries: int, width: int, length: int, context_width: int) -> float:
    projections = 4 * queries * width**2 + 4 * length * context_width * width
    return projections + 4 * queries * length * width


def _stem(config: VisionConfig | ImageInputConfig, width: int) -> float:
    if config.stem == "linear":
        return 2 * config.patches * 3 * config.patch_size**2 * width
    total, side, inputs = 2.0 * config.patches * width**2, config.image_size, 3
    for outputs in stem_channels(config.patch_size, width):
        side //= 2
        total += 2 * side**2 * 9 * inputs * outputs
        inputs = outputs
    return total


def _vision(config: VisionConfig) -> float:
    tokens = config.patches + config.class_token
    return _stem(config, config.width) + _layers(
        depth=config.depth,
        width=config.width,
        hidden=config.hidden,
        length=tokens,
        causal=False,
    )


def _coca(config: CoCaConfig) -> dict[str, float]:
    vision, text, queries = config.vision, config.text, config.queries
    image = _vision(vision) + _pooler(
        queries=queries,
        width=text.width,
        length=vision.patches + (config.pooling == "first"),
        context_width=vision.width,
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
        context=config.context,
        ffns=2 if text.cross_ffn else 1,
    )
    logits = 2 * text.length * text.width * text.vocabulary
    return {
        "image": image,
        "text": unimodal + 2 * config.embedding * text.width,
        "caption": multimodal + logits,
    }


def _clip(config: CLIPConfig) -> dict[str, float]:
    text, embedding = config.text, config.embedding
    layers = _layers(
        depth=text.depth,
        width=text.width,
        hidden=text.hidden,
        length=text.length,
        causal=not isinstance(text, XLMRobertaConfig),
    )
    return {
        "image": _vision(config.vision) + 2 * embedding * config.vision.width,
        "text": layers + _text_projection(config),
    }


def _text_projection(config: CLIPConfig) -> float:
    text, embedding = config.text, config.embedding
    if isinstance(text, XLMRobertaConfig) and text.projection == "mlp":
        return 2 * ((text.width + embedding) // 2) * (text.width + embedding)
    return 2 * embedding * text.width


def _slip(config: SLIPConfig) -> dict[str, float]:
    head, width = config.head, config.vision.width
    head_flops = 2 * (width * head.hidden + head.hidden**2 + head.hidden * head.embedding)
    return {**_clip(config.clip), "views": VIEWS * (_vision(config.vision) + head_flops)}


def _attributes(config: AttributesConfig) -> dict[str, float]:
    """A picture with a category, and an attribute in words."""
    both, vision, text = _clip(config.clip), config.vision, config.text
    fused = 4.0 * vision.width * vision.hidden + 2 * text.width * vision.width
    if config.fusion == "attend":
        fused += _pooler(
            queries=1, width=vision.width, length=vision.patches, context_width=vision.width
        )
    else:
        fused = 2.0 * vision.hidden * (2 * vision.width + text.width)
    category = both["text"] - _text_projection(config.clip)
    return {**both, "category": category + fused}


def _oner_stream(config: OneRConfig, length: int) -> float:
    """The tower over one sequence."""
    tower = config.tower
    return _layers(
        depth=tower.depth, width=tower.width, hidden=tower.hidden, length=length, causal=False
    )


def _oner_given(config: OneRConfig, length: int, context: int) -> float:
    """The tower over a sequence in the context of another, whose keys and values there are."""
    tower = config.tower
    a_layer = (
        4 * length * tower.width**2
        + 4 * length * context * tower.width
        + 4 * length * tower.width * tower.hidden
    )
    return tower.depth * a_layer


def _oner_head(config: OneRConfig, *, predict: bool) -> float:
    head, width = config.head, config.tower.width
    if head.kind == "linear":
        total = 2 * width * head.embedding
    else:
        total = 2 * (width * head.hidden + head.hidden**2 + head.hidden * head.embedding)
    return total + (4 * head.embedding * head.hidden if predict and head.predictor else 0)


def _oner(config: OneRConfig) -> dict[str, float]:
    predict = config.head.scored == "predictor"
    image = _stem(config.vision, config.tower.width) + _oner_stream(
        config, config.vision.patches + 1
    )
    return {
        "image": image + _oner_head(config, predict=predict),
        "text": _oner_stream(config, config.text.length + 1) + _oner_head(config, predict=False),
    }


def oner_step_flops(
    config: OneRConfig, *, alone: bool, contextual: bool, joined: bool, mixtures: int
) -> float:
    """Operations of a training step of one example: each pass of the encoder that it needs.

    A student's pass goes forward and back (three times its forward operations), a teacher's goes
    forward.

    Args:
        alone: the student's image and text each alone.
        contextual: each in the other's context besides, over keys and values there are already.
        joined: image and text as one sequence.
        mixtures: means of the tower's outputs that go through the head.
    """
    patches, words = config.vision.patches, config.text.length
    stem = _stem(config.vision, config.tower.width)
    image = _oner_stream(config, patches + 1)
    text = _oner_stream(config, words + 1)
    student, heads = stem, mixtures
    words_predicted = patches_predicted = 0
    if alone:
        student += image + text
        heads += 2
        patches_predicted, words_predicted = patches, words
    if contextual:
        student += _oner_given(config, patches + 1, words + 1)
        student += _oner_given(config, words + 1, patches + 1)
    if joined:
        student += _oner_stream(config, patches + words + 1)
        heads += 1
        patches_predicted, words_predicted = patches_predicted + patches, words_predicted + words
    student += heads * _oner_head(config, predict=True)
    if config.masking is not None:
        width = config.tower.width
        student += 2 * words_predicted * width * config.text.vocabulary
        student += 2 * patches_predicted * width * 3 * config.vision.patch_size**2
    keys = 2 + (mixtures > 0 or joined)
    return 3 * student + stem + image + text + keys * _oner_head(config, predict=False)


def forward_flops(config: ModelConfig) -> dict[str, float]:
    """Operations of one example's forward pass, by part.

    Image and text; for CoCa the caption besides, for SLIP the views that it is trained on,
    for attribute search the category that is asked for.
    """
    if isinstance(config, OneRConfig):
        return _oner(config)
    if isinstance(config, SLIPConfig):
        return _slip(config)
    if isinstance(config, AttributesConfig):
        return _attributes(config)
    return _coca(config) if isinstance(config, CoCaConfig) else _clip(config)


def forward_flops_total(config: ModelConfig) -> float:
    """Operations of one example's whole forward pass; a training step takes three times as many."""
    return sum(forward_flops(config).values())
