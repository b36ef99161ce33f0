"""A small autoencoder of product photos, for the generator of `diffusion/products`.

    kmm train diffusion/products_autoencoder --run-dir runs/autoencoder data.sources.0.url=SHARDS

1.1M parameters, 32 pixels to 16 x 16 x 4 latents. On two cores some 10 minutes.
"""

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.diffusion.config import VAEConfig
from kmm_jax.tasks.autoencoder import AutoencoderTask
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW

SIZE = 32


def experiment() -> Experiment:
    return Experiment(
        name="products-autoencoder",
        task=AutoencoderTask(
            model=VAEConfig(
                widths=(32, 64),
                layers=1,
                norm_groups=8,
                middle_attention=False,
                scaling=1.0,
                sample_size=SIZE,
            )
        ),
        data=DataConfig(
            sources=(SourceConfig(url="data/products/train-*.tar"),),
            image_size=SIZE,
            text_length=24,
            fields=(("query_en", 1.0),),
            styled=False,
            augment=AugmentConfig(scale=(0.7, 1.0)),
        ),
        tokenizer="data/products/english",
        global_batch_size=32,
        duration="1200 steps",
        optimizer=AdamW(learning_rate=2e-3, warmup="4%", weight_decay=0.0, b2=0.99),
        ema=0.99,
        checkpoint=CheckpointConfig(every="25%", keep_latest=1),
        log_every="20 steps",
    )
