"""SLIP ViT-B/16 by its paper's recipe, 40 epochs of a CC3M-sized set (arXiv 2112.12750).

    kmm train slip/b16 --run-dir RUN data.sources.0.url=SHARDS tokenizer=TOKENIZER

The SLIP row of the talk's OneR table (slide 3.3): ImageNet zero-shot 23.0 after CC3M, where the
same towers as a CLIP (`clip/b16`) reach 17.1. The authors take 64 GPUs for a batch of 4096. Their
warm-up begins at 1e-6 and ours at 0; their colour jitter has a random order (see `AugmentConfig`).
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.models.slip.config import slip_b16
from kmm_jax.tasks.slip import SLIPTask
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment


def experiment() -> Experiment:
    clip = load_experiment("clip/b16")
    view = AugmentConfig(
        scale=(0.08, 1.0),
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        grey=0.2,
        blur=0.5,
    )
    return dataclasses.replace(
        clip,
        name="slip-b16",
        task=SLIPTask(model=slip_b16()),
        data=dataclasses.replace(clip.data, views=(view, view)),
        optimizer=dataclasses.replace(
            clip.optimizer, learning_rate=3e-3, final_fraction=1e-5 / 3e-3, weight_decay=0.1
        ),
    )
