"""Finetune the UNet of SDXL base 1.0 on pictures with texts.

    kmm train diffusion/sdxl_finetune --init MODEL --run-dir runs/sdxl data.sources.0.url=SHARDS

Latents encoded once by `kmm latents MODEL SHARDS --output DIR --size 1024 --mirrored` go in as
`data.sources.0.url=latents:DIR`.

Noise prediction with min-SNR weights; a tenth of the texts become zeros in both encoders, and the
UNet is told of each picture its size and crop (arXiv 2307.01952, section 2.2).
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.diffusion.config import sdxl
from kmm_jax.tasks.diffusion import DiffusionTask
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.sharding import MeshConfig


def experiment() -> Experiment:
    model = sdxl(dtype="bfloat16", remat="full")
    texts = tuple(dataclasses.replace(text, dtype="bfloat16") for text in model.texts)
    model = dataclasses.replace(
        model, texts=texts, vae=dataclasses.replace(model.vae, dtype="bfloat16")
    )
    return Experiment(
        name="sdxl-finetune",
        task=DiffusionTask(model=model, min_snr=5.0, zero_dropped=True),
        data=DataConfig(
            sources=(SourceConfig(url="data/pictures/train-*.tar"),),
            image_size=1024,
            text_length=texts[0].tower.length,
            styled=False,
            augment=AugmentConfig(scale=(0.8, 1.0), flip=0.5),
            sizes=True,
        ),
        tokenizer="@init",
        global_batch_size=256,
        duration="10000 steps",
        optimizer=AdamW(learning_rate=1e-5, warmup="500 steps", weight_decay=0.01, b2=0.999),
        mesh=MeshConfig(data=1, fsdp=-1),
        ema=0.9999,
        freeze="(vae|texts)/.*",
        checkpoint=CheckpointConfig(every="1000 steps"),
    )
