"""The CLIP that `attributes/shop` begins from: the same towers, trained on the shop's texts.

kmm train attributes/shop_clip --run-dir runs/attributes-clip
"""

import dataclasses

from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment


def experiment() -> Experiment:
    attributes = load_experiment("attributes/shop")
    texts = (("product_name", 1.0), ("caption", 1.0), ("query", 1.0))
    return dataclasses.replace(
        attributes,
        name="attributes-shop-clip",
        task=CLIPTask(model=attributes.task.model.clip),
        data=dataclasses.replace(attributes.data, fields=texts),
    )
