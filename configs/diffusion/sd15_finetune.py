"""Finetune the UNet of Stable Diffusion 1.x on pictures with texts.

    kmm train diffusion/sd15_finetune --init MODEL --run-dir runs/sd15 data.sources.0.url=SHARDS

Latents encoded once by `kmm latents MODEL SHARDS --output DIR --size 512 --mirrored` go in as
`data.sources.0.url=latents:DIR`.

Noise prediction with min-SNR weights, a tenth of the texts emptied, an average of the weights.
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.diffusion.config import sd15
from kmm_jax.tasks.diffusion import DiffusionTask
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW


def experiment() -> Experiment:
    model = sd15(dtype="bfloat16", remat="full")
    text = dataclasses.replace(model.texts[0], dtype="bfloat16")
    model = dataclasses.replace(
        model, texts=(text,), vae=dataclasses.replace(model.vae, dtype="bfloat16")
    )
    return Experiment(
        name="sd15-finetune",
        task=DiffusionTask(model=model, min_snr=5.0),
        data=DataConfig(
            sources=(SourceConfig(url="data/pictures/train-*.tar"),),
            image_size=512,
            text_length=text.tower.length,
            styled=False,
            augment=AugmentConfig(scale=(0.8, 1.0), flip=0.5),
        ),
        tokenizer="@init",
        global_batch_size=256,
        duration="20000 steps",
        optimizer=AdamW(learning_rate=1e-5, warmup="500 steps", weight_decay=0.01, b2=0.999),
        ema=0.9999,
        freeze="(vae|texts)/.*",
        checkpoint=CheckpointConfig(every="1000 steps"),
    )
