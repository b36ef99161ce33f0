"""Prompt-CoCa on the built-in Korean shop: 7 minutes on two CPU cores.

    make quickstart                            # makes the data, trains this, reports

or, by hand:

    kmm data shards shop --output data/shop
    kmm tokenizer train 'data/shop/train-*.tar' --vocab-size 1500 --output data/shop/tokenizer
    kmm train coca/shop --run-dir runs/shop

Its scores on combinations never seen stand in the report that `make quickstart` writes.
"""

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.coca.config import small
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW


def experiment() -> Experiment:
    return Experiment(
        name="coca-shop",
        task=CoCaTask(
            model=small(
                image_size=32,
                patch_size=8,
                width=128,
                depth=3,
                half=1,
                vocabulary=1500,
                length=16,
            ),
        ),
        data=DataConfig(
            sources=(SourceConfig(url="data/shop/train-*.tar"),),
            image_size=32,
            text_length=16,
            augment=AugmentConfig(scale=(0.6, 1.0)),
        ),
        tokenizer="data/shop/tokenizer",
        global_batch_size=128,
        duration="20 epochs",
        optimizer=AdamW(learning_rate=1e-3, warmup="5%", b2=0.98, weight_decay=0.05),
        checkpoint=CheckpointConfig(every="10%", keep_latest=2),
    )
