"""CLIP on the built-in Korean shop, the size of `coca/shop` without its decoder.

kmm train clip/shop --run-dir runs/clip-shop
"""

import dataclasses

from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment


def experiment() -> Experiment:
    coca = load_experiment("coca/shop")
    model = clip_tiny(vocabulary=1500, image_size=32)
    return dataclasses.replace(
        coca,
        name="clip-shop",
        task=CLIPTask(
            model=dataclasses.replace(
                model,
                vision=dataclasses.replace(model.vision, depth=3),
                text=dataclasses.replace(model.text, length=16),
            )
        ),
        data=dataclasses.replace(coca.data, styled=False),
    )
