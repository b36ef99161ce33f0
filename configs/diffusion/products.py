"""Text to image from nothing on product photos: text encoder and UNet over a frozen autoencoder.

    kmm train diffusion/products --init runs/autoencoder --run-dir runs/products \\
        data.sources.0.url=SHARDS

4M parameters, 16 x 16 x 4 latents of 32 pixels, velocity prediction. On two cores at rest some 80
pictures a second: 100,000 pictures, as here, take half an hour.
"""

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.clip.config import TextTowerConfig
from kmm_jax.models.diffusion.config import (
    LatentDiffusionConfig,
    TextEncoderConfig,
    UNetConfig,
)
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule
from kmm_jax.tasks.diffusion import DiffusionTask
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW

VOCABULARY, LENGTH = 1000, 24


def experiment() -> Experiment:
    autoencoder = load_experiment("diffusion/products_autoencoder")
    vae = autoencoder.task.model
    tower = TextTowerConfig(
        vocabulary=VOCABULARY,
        length=LENGTH,
        width=96,
        depth=2,
        heads=4,
        hidden=384,
        eos_id=VOCABULARY - 1,
    )
    return Experiment(
        name="products-generator",
        task=DiffusionTask(
            model=LatentDiffusionConfig(
                texts=(TextEncoderConfig(tower=tower),),
                unet=UNetConfig(
                    widths=(32, 64, 96),
                    layers=1,
                    transformers=(0, 1, 1),
                    heads=(4, 4, 4),
                    context_width=96,
                    norm_groups=16,
                    sample_size=vae.sample_size // vae.factor,
                ),
                vae=vae,
            ),
            schedule=NoiseSchedule(beta_schedule="squaredcos_cap_v2", prediction="v_prediction"),
        ),
        data=DataConfig(
            sources=(SourceConfig(url="data/products/train-*.tar"),),
            image_size=vae.sample_size,
            text_length=LENGTH,
            fields=(("query_en", 1.0),),
            styled=False,
            # The whole product stays in the picture, and half are mirrored.
            augment=AugmentConfig(scale=(0.95, 1.0), ratio=(0.95, 1.05)),
        ),
        tokenizer="data/products/english",
        global_batch_size=64,
        duration="1600 steps",
        optimizer=AdamW(learning_rate=1e-3, warmup="4%", weight_decay=0.01, b2=0.99),
        ema=0.995,
        freeze="vae/.*",
        checkpoint=CheckpointConfig(every="25%", keep_latest=1),
        log_every="20 steps",
    )
