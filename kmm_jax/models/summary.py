"""What a preset is, in numbers: parameters as its paper counts them, and FLOPs."""

from __future__ import annotations

import math
from typing import Any

import jax
from flax import nnx

from kmm_jax.models import registry
from kmm_jax.models.attributes.config import AttributesConfig
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.flops import forward_flops_total
from kmm_jax.models.keys import abstract_module
from kmm_jax.models.oner.config import OneRConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.slip.config import SLIPConfig


def parameters(module: Any) -> int:
    """Number of parameters of a module, real or abstract; running statistics are none."""
    found = nnx.as_pure(nnx.state(module, nnx.Param))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(found))


def summarise(config: ModelConfig) -> dict[str, Any]:
    """Parameters by part and forward FLOPs of one example; nothing is allocated.

    For CoCa ``image`` and ``text`` count as table 1 of its paper does: the encoder, and the decoder
    with its embeddings, without poolers and projections; ``paper_total`` is their sum. For OneR
    they are what an image and a text go through, and ``paper_total`` counts what both share once.
    ``total`` counts everything.
    """
    module: Any = abstract_module(lambda rngs: registry.build(config, rngs=rngs))
    towers = module.clip if isinstance(config, SLIPConfig | AttributesConfig) else module
    image, text = parameters(towers.vision), parameters(towers.text)
    shared = 0
    if isinstance(config, OneRConfig):
        shared = parameters(module) - image - text
    elif not isinstance(config, CoCaConfig):  # CLIP's papers count each projection to its tower
        image += parameters(towers.image_projection)
        text += parameters(towers.text_projection)
    return {
        "family": registry.family(config),
        "image_size": config.vision.image_size,
        "image": image + shared,
        "text": text + shared,
        "paper_total": image + text + shared,
        "total": parameters(module),
        "flops": forward_flops_total(config),
    }
