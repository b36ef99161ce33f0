"""Stable Diffusions of diffusers with random weights, in the published sizes and in small ones.

The sizes are those of the published ``config.json`` files, and not read from our presets, so that
a mistake there shows. Every parameter is drawn at random, biases and norms too: at their usual
start of 0 and 1 a name mistaken for another would not show.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from kmm_jax.text.adopted import adopt
from kmm_jax.text.clip_bpe import save_clip_folder
from kmm_jax.text.tokenizer import Tokenizer
from tools.bench.torch_reference import open_clip_module

Kind = Literal["sd15", "sd21", "sdxl"]
Config = Mapping[str, Any]

SCHEDULER: Config = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    # PNDM's class has no such option; the published file says it all the same, for DDIM.
    "clip_sample": False,
}
_SD15: Config = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "sample_size": 64,
}
_UNETS: Mapping[Kind, Config] = {
    "sd15": _SD15,
    "sd21": {
        **_SD15,
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
        "sample_size": 96,
    },
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        "layers_per_block": 2,
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 6 * 256 + 1280,
        "sample_size": 128,
    },
}
_VAE: Config = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
_SCALING = {"sdxl": 0.13025}
_L14: Config = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
_H14: Config = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
_BIG_G: Config = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
_TEXTS: Mapping[Kind, tuple[Config, ...]] = {
    "sd15": (_L14,),
    "sd21": (_H14,),
    "sdxl": (_L14, _BIG_G),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """The configurations of a model's parts, as diffusers and transformers take them."""

    unet: Config
    vae: Config
    texts: tuple[Config, ...]


def published(kind: Kind) -> Sizes:
    """The sizes in which the model is published."""
    vae = {**_VAE, "scaling_factor": _SCALING.get(kind, _VAE["scaling_factor"])}
    return Sizes(unet=_UNETS[kind], vae=vae, texts=_TEXTS[kind])


def half_as_wide(kind: Kind) -> Sizes:
    """UNet and text encoders of half the published widths, and as deep."""
    whole = published(kind)
    unet = {
        **whole.unet,
        "block_out_channels": tuple(width // 2 for width in whole.unet["block_out_channels"]),
        "cross_attention_dim": whole.unet["cross_attention_dim"] // 2,
    }
    if "addition_embed_type" in unet:
        unet["projection_class_embeddings_input_dim"] = 6 * 256 + _BIG_G["projection_dim"] // 2
    names = ("hidden_size", "intermediate_size", "projection_dim")
    texts = tuple({**text, **{name: text[name] // 2 for name in names}} for text in whole.texts)
    return Sizes(unet=unet, vae=whole.vae, texts=texts)


def small(kind: Kind) -> Sizes:
    """The outer two levels of each network, narrow; latents are half as large along a side."""
    whole = published(kind)
    texts = tuple(
        {
            **text,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "projection_dim": 32,
        }
        for text in whole.texts
    )
    unet = {
        **whole.unet,
        "block_out_channels": (32, 64),
        **{
            name: (whole.unet[name][0], whole.unet[name][-1])
            for name in ("down_block_types", "up_block_types")
        },
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": 32 * len(texts),
        "norm_num_groups": 16,
        "sample_size": 16,
    }
    if kind == "sdxl":
        unet |= {
            "transformer_layers_per_block": (1, 2),
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 32,
        }
    vae = {
        **whole.vae,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": 32,
    }
    return Sizes(unet=unet, vae=vae, texts=texts)


def openai_tokenizer() -> Tokenizer:
    """The tokenizer of OpenAI's CLIP, whose merges open_clip carries."""
    package = Path(str(open_clip_module().__file__)).parent
    return Tokenizer(adopt(package / "bpe_simple_vocab_16e6.txt.gz"))


def diffusers() -> Any:
    """The library.

    Raises:
        UserError: it, or PyTorch, is not installed.
    """
    open_clip_module()  # makes torchvision importable, which transformers imports
    return importlib.import_module("diffusers")


def randomised(module: Any, seed: int) -> Any:
    """The module in evaluation mode, with every parameter at random."""
    torch = importlib.import_module("torch")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.normal_(generator=generator)
            if value.ndim >= 2:
                # Products keep their scale whatever the width.
                value.mul_(value[0].numel() ** -0.5)
            elif name.endswith("weight"):
                value.mul_(0.2).add_(1)  # a norm's
            else:
                value.mul_(0.2)
    return module.eval()


def pipeline(
    folder: Path,
    kind: Kind,
    *,
    sizes: Callable[[Kind], Sizes] = published,
    tokenizer: Tokenizer,
    seed: int = 0,
) -> Any:
    """A whole pipeline of diffusers; also saved to ``folder / "model"``, as its users do."""
    library, transformers = diffusers(), importlib.import_module("transformers")
    made = sizes(kind)
    save_clip_folder(tokenizer, folder / "tokenizer")
    theirs = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    prediction = "v_prediction" if kind == "sd21" else "epsilon"
    parts: dict[str, Any] = {
        "unet": randomised(library.UNet2DConditionModel(**made.unet), seed),
        "vae": randomised(library.AutoencoderKL(**made.vae), seed + 1),
        "scheduler": library.PNDMScheduler.from_config(
            {**SCHEDULER, "prediction_type": prediction}
        ),
    }
    for number, text in enumerate(made.texts):
        ending = f"_{number + 1}" if number else ""
        config = transformers.CLIPTextConfig(
            **text,
            vocab_size=tokenizer.vocab_size,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_id,
            eos_token_id=tokenizer.eos_id,
            pad_token_id=tokenizer.pad_id,
        )
        projects = number > 0  # SDXL's second encoder
        network = transformers.CLIPTextModelWithProjection if projects else None
        encoder = (network or transformers.CLIPTextModel)(config)
        parts[f"text_encoder{ending}"] = randomised(encoder, seed + 2 + number)
        parts[f"tokenizer{ending}"] = theirs
    if kind == "sdxl":
        whole = library.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        parts |= {"safety_checker": None, "feature_extractor": None}
        whole = library.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    whole.set_progress_bar_config(disable=True)
    with contextlib.redirect_stderr(io.StringIO()):  # a bar for each part
        whole.save_pretrained(folder / "model")
    return whole
