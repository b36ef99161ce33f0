r"""Attribute search on the built-in Korean shop (slide 3.1): picture + category against attributes.

    kmm data shards shop --attributes --output data/shop_attributes
    kmm tokenizer train 'data/shop_attributes/train-*.tar' --vocab-size 1500 \
        --output data/shop_attributes/tokenizer
    kmm train attributes/shop_clip --run-dir runs/clip
    kmm train attributes/shop --run-dir runs/attributes --init runs/clip \
        --init-fresh '(fusion|gate)(/.*)?'

Every fifth picture shows two or three things; of each the record tells category and attributes.
"""

import dataclasses

from kmm_jax.data.config import SourceConfig
from kmm_jax.models.attributes.config import attributes_over
from kmm_jax.tasks.attributes import AttributesTask
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment

FOLDER = "data/shop_attributes"


def experiment() -> Experiment:
    clip = load_experiment("clip/shop")
    towers = dataclasses.replace(
        clip.task.model,
        # Half of clip/shop's: a heel or a collar of one of three things is a few pixels.
        vision=dataclasses.replace(clip.task.model.vision, patch_size=4),
        text=dataclasses.replace(clip.task.model.text, length=24),
    )
    return dataclasses.replace(
        clip,
        name="attributes-shop",
        task=AttributesTask(model=attributes_over(towers, heads=4)),
        data=dataclasses.replace(
            clip.data,
            sources=(SourceConfig(url=f"{FOLDER}/train-*.tar"),),
            fields=(("statements", 1.0),),
            text_length=24,
        ),
        tokenizer=f"{FOLDER}/tokenizer",
    )
