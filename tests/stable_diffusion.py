"""Small Stable Diffusions made by diffusers, as folders and in memory."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kmm_jax.text.clip_bpe import save_clip_folder, train_clip_bpe
from tests.references import open_clip

TEXTS = (
    "a photo of a red shirt",
    "a photo of a blue bag",
    "a white shoe on a table",
    "빨간 셔츠 사진",
    "파란 가방을 찍은 사진",
    "a fire-breathing dragon in the rain, 4K",
)
VOCABULARY = 532
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}
# What is made for each kind, and how it differs from SD 1.
KINDS: dict[str, dict[str, Any]] = {
    "sd1": {},
    "sd2": {"kind": "sd2", "prediction": "v_prediction"},
    "sdxl": {"kind": "sdxl"},
    "inpainting": {"in_channels": 9},
    "lcm": {"time_cond_proj_dim": 32},
}
_LEVELS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "sample_size": 8,
}


class Made(NamedTuple):
    """A folder, and the pipeline of diffusers that was saved there."""

    folder: Path
    pipeline: Any


def made(place: Path, kind: str) -> Made:
    """A small Stable Diffusion of one of `KINDS`, saved below ``place``."""
    return Made(place / "model", pipeline(place, **KINDS[kind]))


def diffusers() -> Any:
    """The module, or skip with the reason."""
    open_clip()  # torchvision, which transformers imports, needs what this declares
    return pytest.importorskip("diffusers", reason="diffusers is the reference here")


def wake(module: Any, scale: float = 0.03) -> Any:
    """A PyTorch module with noise on every parameter: zeros and ones would hide mistakes."""
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    return module.eval()


def unet(kind: str = "sd1", **changes: Any) -> Any:
    """A small UNet of diffusers, laid out as SD 1, 2 or XL."""
    options: dict[str, Any] = {**_LEVELS, "cross_attention_dim": 32, "attention_head_dim": 4}
    if kind == "sd2":
        options |= {"attention_head_dim": (2, 4), "use_linear_projection": True}
    if kind == "sdxl":
        options |= {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": (2, 4),
            "use_linear_projection": True,
            "transformer_layers_per_block": (1, 2),
            "cross_attention_dim": 64,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 24,
        }
    return wake(diffusers().UNet2DConditionModel(**{**options, **changes}))


def vae() -> Any:
    """A small AutoencoderKL of diffusers."""
    return wake(
        diffusers().AutoencoderKL(
            block_out_channels=(16, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=8,
            sample_size=16,
            scaling_factor=0.3,
        )
    )


def text_encoder(*, projection: int | None = None, activation: str = "quick_gelu") -> Any:
    """A small CLIPTextModel of transformers."""
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=20,
        hidden_act=activation,
        projection_dim=projection or 32,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=VOCABULARY - 1,
    )
    kind = transformers.CLIPTextModel
    if projection:
        kind = transformers.CLIPTextModelWithProjection
    return wake(kind(config))


def pipeline(
    folder: Path, *, kind: str = "sd1", prediction: str = "epsilon", **changes: Any
) -> Any:
    """A whole pipeline of diffusers, saved to ``folder`` as well."""
    import torch
    import transformers

    library = diffusers()
    # Layers so small are slower with several, most of all beside other processes.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bpe = train_clip_bpe(TEXTS, 600)
    assert bpe.vocab_size == VOCABULARY, bpe.vocab_size
    save_clip_folder(bpe, folder / "bpe", length=20)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "bpe")
    scheduler = library.PNDMScheduler(**SCHEDULER, prediction_type=prediction)
    parts: dict[str, Any] = {
        "unet": unet(kind, **changes),
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer,
        "scheduler": scheduler,
    }
    if kind == "sdxl":
        parts |= {
            "text_encoder_2": text_encoder(projection=24, activation="gelu"),
            "tokenizer_2": tokenizer,
        }
        whole = library.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        parts |= {"safety_checker": None, "feature_extractor": None}
        whole = library.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    whole.set_progress_bar_config(disable=True)
    with contextlib.redirect_stderr(io.StringIO()):
        whole.save_pretrained(folder / "model")
    return whole


def scheduler_file(pipeline: Any) -> dict[str, Any]:
    """What diffusers writes as the scheduler_config.json of a pipeline."""
    return dict(json.loads(pipeline.scheduler.to_json_string()))
