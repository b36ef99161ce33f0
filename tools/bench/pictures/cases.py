"""Which pictures are timed: Stable Diffusion 1.5's, and those of a reduced one for a processor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.interop.diffusers.folder import DType, Published
from kmm_jax.interop.native import unflatten
from kmm_jax.models.clip.config import TextTowerConfig
from kmm_jax.models.diffusion.config import (
    LatentDiffusionConfig,
    TextEncoderConfig,
    UNetConfig,
    VAEConfig,
    sd15,
)
from kmm_jax.models.diffusion.flops import picture_flops
from kmm_jax.text.clip_bpe import train_clip_bpe
from kmm_jax.text.tokenizer import Tokenizer

Side = Literal["kmm_jax", "diffusers"]
SIDES: tuple[Side, ...] = ("kmm_jax", "diffusers")
PROMPT = "a photo of a red shirt"
GUIDANCE = 7.5

_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """So many pictures of one model at once, guided, each of ``steps`` of DDIM."""

    model: Literal["sd15", "sd-reduced"]
    batch: int
    steps: int
    dtype: DType

    @property
    def name(self) -> str:
        """What names it on the command line and in the records."""
        return f"{self.model}/{self.batch}"

    @property
    def config(self) -> LatentDiffusionConfig:
        """Of the model."""
        return sd15() if self.model == "sd15" else _reduced()

    @property
    def side(self) -> int:
        """Pixels along a side of a picture."""
        return self.config.unet.sample_size * self.config.vae.factor

    @property
    def flops_per_picture(self) -> float:
        """Of text encoder, all passes of the UNet, and decoder."""
        return picture_flops(self.config, self.side, self.side, evaluations=self.steps, guided=True)


def _reduced() -> LatentDiffusionConfig:
    tower = TextTowerConfig(
        vocabulary=tokenizer().vocab_size,
        length=77,
        width=128,
        depth=4,
        heads=4,
        hidden=512,
        activation="quick_gelu",
        pooling="argmax",
    )
    return LatentDiffusionConfig(
        texts=(TextEncoderConfig(tower=tower),),
        unet=UNetConfig(
            widths=(64, 128, 128),
            transformers=(1, 1, 0),
            heads=(4, 4, 4),
            context_width=128,
            sample_size=16,
        ),
        vae=VAEConfig(widths=(32, 64, 64), sample_size=64),
    )


ON_A_PROCESSOR = tuple(
    Case(model="sd-reduced", batch=batch, steps=10, dtype="float32") for batch in (1, 4)
)
ON_AN_ACCELERATOR = tuple(
    Case(model="sd15", batch=batch, steps=50, dtype="bfloat16") for batch in (1, 4, 16)
)


def tokenizer() -> Tokenizer:
    """One of CLIP's kind with hardly more than its letters: what ids say makes no difference."""
    return train_clip_bpe([PROMPT], 600)


def write_model(case: Case, folder: Path) -> None:
    """The model with random weights as a folder that both sides read."""
    rng = np.random.default_rng(0)
    shapes = folders.abstract_params(case.config)

    def drawn(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        if name in ("scale", "bias"):
            return np.full(leaf.shape, float(name == "scale"), np.float32)
        inputs = np.prod(leaf.shape[:-1]) if len(leaf.shape) == 4 else leaf.shape[-2]
        return rng.standard_normal(leaf.shape, np.float32) * np.float32(inputs**-0.5)

    named = jax.tree_util.tree_leaves_with_path(shapes)
    params = {
        jax.tree_util.keystr(path, simple=True, separator="."): drawn(path, leaf)
        for path, leaf in named
    }
    model = Published(
        config=case.config,
        params=unflatten(params),
        tokenizers=(tokenizer(),),
        scheduler=_SCHEDULER,
    )
    folders.write(folder, model)
