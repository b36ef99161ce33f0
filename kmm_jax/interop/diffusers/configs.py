"""Published ``config.json`` files of Stable Diffusion's parts, to configurations here and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kmm_jax.errors import DataError
from kmm_jax.interop.families.base import activation
from kmm_jax.models.clip.config import TextTowerConfig
from kmm_jax.models.diffusion.config import TextEncoderConfig, UNetConfig, VAEConfig

# What diffusers 0.42 builds where a file leaves a key out; keys whose other values are not known
# here are listed with the only ones that are.
_UNET_ONLY: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "only_cross_attention": (False,),
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1,),
    "dropout": (0.0,),
    "act_fn": ("silu",),
    "reverse_transformer_layers_per_block": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "num_attention_heads": (None,),
    "dual_cross_attention": (False,),
    "class_embed_type": (None,),
    "addition_embed_type": (None, "text_time"),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1.0,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "mid_block_only_cross_attention": (None, False),
    "cross_attention_norm": (None,),
}
_VAE_ONLY: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu",),
    "latents_mean": (None,),
    "latents_std": (None,),
}
_DOWN = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}
_TIME_IDS = 6  # SDXL's: original size, corner of the crop, target size
_ARGMAX = 2  # as eos_token_id: read at the largest id


def _check(values: Mapping[str, Any], only: Mapping[str, tuple[Any, ...]], where: str) -> None:
    for name, allowed in only.items():
        if name in values and values[name] not in allowed:
            choices = " or ".join(map(repr, allowed))
            raise DataError(
                f"{where}: {name}={values[name]!r} is of a network that is not built here, which "
                f"takes {choices}"
            )


def _each(value: Any, count: int) -> tuple[int, ...]:
    """One for every level, where a file may say one for all."""
    return tuple(value) if isinstance(value, Sequence) else (int(value),) * count


def _attends(kinds: Sequence[str], known: Mapping[str, bool], where: str) -> list[bool]:
    for kind in kinds:
        if kind not in known:
            raise DataError(
                f"{where}: no block {kind!r} here; known are {' and '.join(known)}, as in Stable "
                "Diffusion 1, 2 and XL"
            )
    return [known[kind] for kind in kinds]


def unet_config(values: Mapping[str, Any], *, dtype: str, where: str) -> UNetConfig:
    """The configuration of a published ``UNet2DConditionModel``.

    Raises:
        DataError: it is of a network that is not built here; says which key.
    """
    _check(values, _UNET_ONLY, where)
    widths = tuple(values.get("block_out_channels", (320, 640, 1280, 1280)))
    levels = len(widths)
    down = values.get("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))
    up = values.get("up_block_types", ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    attends = _attends(down, _DOWN, where)
    if attends[::-1] != _attends(up, _UP, where) or len(attends) != levels:
        raise DataError(f"{where}: the levels on the way down {down} and up {up} do not agree")
    layers = set(_each(values.get("layers_per_block", 2), levels))
    context = set(_each(values.get("cross_attention_dim", 1280), levels))
    if len(layers) > 1 or len(context) > 1:
        raise DataError(f"{where}: layers_per_block and cross_attention_dim must be one number")
    depths = _each(values.get("transformer_layers_per_block", 1), levels)
    added = values.get("addition_embed_type") == "text_time"
    time_id_width = values.get("addition_time_embed_dim") or 256
    joined = values.get("projection_class_embeddings_input_dim") or 0
    try:
        return UNetConfig(
            in_channels=values.get("in_channels", 4),
            out_channels=values.get("out_channels", 4),
            widths=widths,
            layers=layers.pop(),
            transformers=tuple(
                depth if has else 0 for depth, has in zip(depths, attends, strict=True)
            ),
            # The published name says width and means number: huggingface/diffusers#2011.
            heads=_each(values.get("attention_head_dim", 8), levels),
            middle_transformers=depths[-1],
            context_width=context.pop(),
            linear_projection=values.get("use_linear_projection", False),
            norm_groups=values.get("norm_num_groups", 32),
            norm_epsilon=values.get("norm_eps", 1e-5),
            time_ids=_TIME_IDS if added else 0,
            pooled_width=joined - _TIME_IDS * time_id_width if added else 0,
            time_id_width=time_id_width,
            guidance_width=values.get("time_cond_proj_dim") or 0,
            sample_size=_side(values.get("sample_size") or 64, where),
            dtype=dtype,
        )
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def _side(value: Any, where: str) -> int:
    sides = set(value) if isinstance(value, Sequence) else {value}
    if len(sides) > 1:
        raise DataError(f"{where}: sample_size={value} is no square")
    return int(sides.pop())


def unet_json(config: UNetConfig) -> dict[str, Any]:
    """The ``config.json`` with which diffusers builds the same network."""
    kinds = [bool(depth) for depth in config.transformers]
    depths = [depth or 1 for depth in config.transformers]
    if config.transformers[-1] == 0:
        depths[-1] = config.middle_transformers
    values: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "sample_size": config.sample_size,
        "block_out_channels": list(config.widths),
        "layers_per_block": config.layers,
        "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in kinds],
        "up_block_types": ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in kinds[::-1]],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "transformer_layers_per_block": depths,
        "attention_head_dim": list(config.heads),
        "cross_attention_dim": config.context_width,
        "use_linear_projection": config.linear_projection,
        "norm_num_groups": config.norm_groups,
        "norm_eps": config.norm_epsilon,
        "act_fn": "silu",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "downsample_padding": 1,
        "center_input_sample": False,
        "mid_block_scale_factor": 1,
    }
    if config.time_ids:
        values |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": config.time_id_width,
            "projection_class_embeddings_input_dim": (
                config.time_ids * config.time_id_width + config.pooled_width
            ),
        }
    if config.guidance_width:
        values["time_cond_proj_dim"] = config.guidance_width
    return values


def vae_config(values: Mapping[str, Any], *, dtype: str, where: str) -> VAEConfig:
    """The configuration of a published ``AutoencoderKL``.

    Raises:
        DataError: it is of a network that is not built here; says which key.
    """
    _check(values, _VAE_ONLY, where)
    widths = tuple(values.get("block_out_channels", (64,)))
    for name, kind in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
        kinds = list(values.get(f"{name}_block_types", (kind,)))
        if kinds != [kind] * len(widths):
            raise DataError(f"{where}: {name}_block_types={kinds}, where only {kind} is known here")
    channels = values.get("in_channels", 3)
    if values.get("out_channels", 3) != channels:
        raise DataError(f"{where}: in_channels and out_channels differ")
    try:
        return VAEConfig(
            in_channels=channels,
            latent_channels=values.get("latent_channels", 4),
            widths=widths,
            layers=values.get("layers_per_block", 1),
            norm_groups=values.get("norm_num_groups", 32),
            middle_attention=values.get("mid_block_add_attention", True),
            quant=values.get("use_quant_conv", True),
            post_quant=values.get("use_post_quant_conv", True),
            scaling=values.get("scaling_factor", 0.18215),
            shift=values.get("shift_factor") or 0.0,
            sample_size=_side(values.get("sample_size", 32), where),
            dtype=dtype,
        )
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def vae_json(config: VAEConfig) -> dict[str, Any]:
    """The ``config.json`` with which diffusers builds the same autoencoder."""
    levels = len(config.widths)
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "latent_channels": config.latent_channels,
        "block_out_channels": list(config.widths),
        "layers_per_block": config.layers,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "mid_block_add_attention": config.middle_attention,
        "use_quant_conv": config.quant,
        "use_post_quant_conv": config.post_quant,
        "norm_num_groups": config.norm_groups,
        "act_fn": "silu",
        "scaling_factor": config.scaling,
        "shift_factor": config.shift or None,
        "sample_size": config.sample_size,
    }


def text_config(
    values: Mapping[str, Any], *, width: int, dtype: str, projects: bool
) -> TextEncoderConfig:
    """The configuration of a published ``CLIPTextModel``, with its projection if it ``projects``.

    Args:
        width: of the token embedding, which decides what heads a file without them has.
    """
    eos_id = values.get("eos_token_id", 49_407)
    return TextEncoderConfig(
        tower=TextTowerConfig(
            vocabulary=values.get("vocab_size", 49_408),
            length=values.get("max_position_embeddings", 77),
            width=width,
            depth=values.get("num_hidden_layers", 12),
            heads=values.get("num_attention_heads", 8),
            hidden=values.get("intermediate_size", 2048),
            activation=activation(values.get("hidden_act", "quick_gelu")),
            norm_epsilon=values.get("layer_norm_eps", 1e-5),
            pooling="argmax" if eos_id == _ARGMAX else "eos",
            eos_id=eos_id,
        ),
        projection=values.get("projection_dim", 512) if projects else None,
        dtype=dtype,
    )


def text_class(config: TextEncoderConfig) -> str:
    """The class of transformers that is the same encoder."""
    return "CLIPTextModel" if config.projection is None else "CLIPTextModelWithProjection"


def text_json(config: TextEncoderConfig, *, bos_id: int, pad_id: int) -> dict[str, Any]:
    """The ``config.json`` with which transformers builds the same encoder."""
    tower = config.tower
    names = {"gelu_tanh": "gelu_pytorch_tanh"}
    return {
        "architectures": [text_class(config)],
        "model_type": "clip_text_model",
        "vocab_size": tower.vocabulary,
        "max_position_embeddings": tower.length,
        "hidden_size": tower.width,
        "num_hidden_layers": tower.depth,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.hidden,
        "hidden_act": names.get(tower.activation, tower.activation),
        "layer_norm_eps": tower.norm_epsilon,
        "projection_dim": tower.width if config.projection is None else config.projection,
        "bos_token_id": bos_id,
        "eos_token_id": _ARGMAX if tower.pooling == "argmax" else tower.eos_id,
        "pad_token_id": pad_id,
    }
