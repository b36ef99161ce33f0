r"""Attribute search on real product photos: Fashion Product Images (Small).

    kmm data shards fashion_products --folder FOLDER --output data/fashion_products
    kmm tokenizer train 'data/fashion_products/train-*.tar' --vocab-size 1500 \
        --output data/fashion_products/tokenizer
    kmm train attributes/products --run-dir runs/attributes-products --init CLIP

A product's own texts are targets too, now and then, as the talk's side texts (a listener's notes).
"""

import dataclasses

from kmm_jax.data.config import SourceConfig
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment

FOLDER = "data/fashion_products"


def experiment() -> Experiment:
    shop = load_experiment("attributes/shop")
    return dataclasses.replace(
        shop,
        name="attributes-products",
        data=dataclasses.replace(
            shop.data,
            sources=(SourceConfig(url=f"{FOLDER}/train-*.tar"),),
            fields=(("statements", 3.0), ("product_name", 1.0)),
        ),
        tokenizer=f"{FOLDER}/tokenizer",
    )
