"""Small experiments whose data need not be there."""

from __future__ import annotations

import dataclasses
from typing import Any

from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import Adafactor
from kmm_jax.training.sharding import MeshConfig
from tests.tiny_models import tiny_coca

LENGTH = 16


def tiny_experiment(
    *, family: str = "clip", remat: str = "full", dtype: str = "bfloat16", **changes: Any
) -> Experiment:
    """A CLIP of width 128, or a CoCa of width 64, four layers of each kind; a batch of 64."""
    sizes = {"vocabulary": 256, "image_size": 16}
    model: Any = clip_tiny(**sizes)
    if family == "coca":
        model = tiny_coca(**sizes, width=64, depth=4, half=4, length=LENGTH)
    model = dataclasses.replace(
        model,
        dtype=dtype,
        vision=dataclasses.replace(model.vision, remat=remat, stem="linear"),
        text=dataclasses.replace(model.text, remat=remat, length=LENGTH),
    )
    given: dict[str, Any] = {
        "name": "tiny",
        "task": CoCaTask(model=model) if family == "coca" else CLIPTask(model=model),
        "data": DataConfig(sources=(SourceConfig(url="x"),), image_size=16, text_length=LENGTH),
        "global_batch_size": 64,
        "duration": "100 steps",
        "optimizer": Adafactor(learning_rate=1e-3, warmup="2%", decay="linear"),
        "mesh": MeshConfig(data=-1, fsdp=1, fsdp_min_size=256),
    }
    return Experiment(**given | changes)
