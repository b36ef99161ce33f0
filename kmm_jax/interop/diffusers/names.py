"""Which tensor of a published Stable Diffusion is which parameter here.

The modules of UNet and autoencoder are named as their PyTorch originals, so their table is computed
from our own names; text towers have the table of CLIPModel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kmm_jax.interop.families.hf_clip import text_rules
from kmm_jax.interop.names import SAME, TURNED, Layout, Rule
from kmm_jax.interop.weights import Weights
from kmm_jax.models.diffusion.config import TextEncoderConfig

PREFIX = "text_model."

# Ours -> theirs. Their lists hold a Dropout, and their resampling is a list of one.
_RENAMED = (
    (r"\.to_out\.", ".to_out.0."),
    (r"\.ff\.proj\.", ".ff.net.0.proj."),
    (r"\.ff\.out\.", ".ff.net.2."),
    (r"\.downsampler\.", ".downsamplers.0."),
    (r"\.upsampler\.", ".upsamplers.0."),
)
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
# Autoencoders published before 2023 name the projections of their attention so.
_OLD_VAE = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

_CONV = Layout(
    lambda x: [x.transpose(2, 3, 1, 0)],
    lambda parts: parts[0].transpose(3, 2, 0, 1),
)
"""A convolution: (out, in, height, width) there, (height, width, in, out) here."""

_LINEAR = Layout(lambda x: [x.reshape(x.shape[:2]).T], TURNED.put)
"""A linear layer, which some files keep as a 1x1 convolution."""

POINT = Layout(_LINEAR.taken, lambda parts: parts[0].T[:, :, None, None])
"""A linear layer that is published as a 1x1 convolution."""


def network_rules(
    shapes: Mapping[str, tuple[int, ...]], *, point_projections: bool = False
) -> list[Rule]:
    """The table of a UNet or an autoencoder.

    Args:
        shapes: of all its parameters, by flat name.
        point_projections: ``proj_in`` and ``proj_out`` are published as 1x1 convolutions.
    """
    rules = []
    for name, shape in shapes.items():
        theirs, _, leaf = name.rpartition(".")
        theirs = f".{theirs}."
        for pattern, replacement in _RENAMED:
            theirs = re.sub(pattern, replacement, theirs)
        layout = SAME
        if leaf == "kernel":
            point = point_projections and re.search(r"\.proj_(in|out)\.$", theirs)
            layout = _CONV if len(shape) == 4 else POINT if point else _LINEAR
        rules.append(Rule(f"{theirs[1:]}{_LEAVES[leaf]}", (name,), layout))
    return rules


def text_encoder_rules(config: TextEncoderConfig) -> list[Rule]:
    """The table of a text encoder, with the prefix that published folders have."""
    rules = text_rules(PREFIX.removesuffix("."), "tower")
    if config.projection is not None:
        rules.append(Rule("text_projection.weight", ("projection.kernel",), TURNED))
    return rules


def with_prefix(weights: Weights) -> Weights:
    """A text encoder's tensors as published folders name them.

    transformers from 5.0 saves CLIPTextModel without the prefix.
    """
    if any(name.startswith(PREFIX) for name in weights):
        return weights
    return weights.renamed(
        {name: name if name.startswith("text_projection") else PREFIX + name for name in weights}
    )


def modern_vae(weights: Weights) -> Weights:
    """An autoencoder's tensors by their names of today."""

    def renamed(name: str) -> str:
        head, _, tail = name.partition(".attentions.")
        for old, new in _OLD_VAE.items():
            tail = re.sub(rf"^(\d+)\.{old}\.", rf"\1.{new}.", tail)
        return f"{head}.attentions.{tail}" if tail else name

    return weights.renamed({name: renamed(name) for name in weights})


def shapes_of(params: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of nested parameters by flat name."""
    import jax

    return {
        jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
