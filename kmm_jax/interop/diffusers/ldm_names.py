"""What layers of UNet and autoencoder are called in the original layout of latent diffusion.

diffusers counts levels and the blocks in them; the authors' code (CompVis/latent-diffusion,
Stability-AI/generative-models) counts a UNet's blocks through, over all levels, and the levels of
an autoencoder's decoder from the picture down.
"""

from __future__ import annotations

import re

from kmm_jax.models.diffusion.config import UNetConfig

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_AROUND = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_OF_AUTOENCODER = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "resnets.0": "block_1",
    "attentions.0": "attn_1",
    "resnets.1": "block_2",
}
_LEVEL = (
    r"(encoder\.down|decoder\.up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_BLOCK = r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"


def ldm_name(module: str, config: UNetConfig) -> str | None:
    """The original name of a layer that diffusers calls ``module``; None where there is none."""
    if module in _AROUND:
        return _AROUND[module]
    middle = re.fullmatch(r"mid_block\.((?:resnets|attentions)\.\d+)\.(.+)", module)
    if middle:
        inner = _inner(middle[1].split(".")[0], middle[2])
        return f"middle_block.{_MIDDLE[middle[1]]}.{inner}"
    found = re.fullmatch(_BLOCK, module)
    if not found:
        return None
    way, level, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if way == "down":
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * (config.layers + 1)}.0.op"
        block = f"input_blocks.{1 + level * (config.layers + 1) + number}"
    else:
        first = level * (config.layers + 1)
        if kind == "upsamplers":
            attends = config.transformers[::-1][level] > 0
            return f"output_blocks.{first + config.layers}.{1 + attends}.{rest}"
        block = f"output_blocks.{first + number}"
    return f"{block}.{1 if kind == 'attentions' else 0}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    return _RESNET.get(rest, rest) if kind == "resnets" else rest


def ldm_autoencoder_name(module: str, levels: int) -> str:
    """The original name of a layer of an autoencoder that diffusers calls ``module``."""
    renamed = _OF_AUTOENCODER
    middle = re.fullmatch(r"(encoder|decoder)\.mid_block\.(\w+\.\d)\.(.+)", module)
    if middle:
        return f"{middle[1]}.mid.{renamed[middle[2]]}.{renamed.get(middle[3], middle[3])}"
    found = re.fullmatch(_LEVEL, module)
    if not found:
        return module.replace("conv_norm_out", "norm_out")
    way, kind, rest = found[1], found[3], found[5]
    level = int(found[2]) if way.startswith("encoder") else levels - 1 - int(found[2])
    if kind != "resnets":
        return f"{way}.{level}.{kind.removesuffix('rs')}.{rest}"
    return f"{way}.{level}.block.{found[4]}.{renamed.get(rest, rest)}"
