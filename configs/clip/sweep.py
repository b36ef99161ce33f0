r"""A small CLIP to tell one set of image-text pairs from another: `kmm corpus sweep` trains it.

    kmm corpus sweep corpus/shards --test TEST --classes imagenet_ko.json --label class \
        --output sweep

ViT-S/16 at 112 pixels and a text tower of six layers, 33M parameters with 32,000 tokens; three
epochs of 3M rows (slide 2.2) take hours on one GPU.
"""

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.clip.config import CLIP_MEAN, CLIP_STD, CLIPConfig, TextTowerConfig
from kmm_jax.models.vision import VisionConfig
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW


def experiment() -> Experiment:
    model = CLIPConfig(
        vision=VisionConfig(
            image_size=112,
            patch_size=16,
            width=384,
            depth=12,
            heads=6,
            hidden=1536,
            class_token=True,
            pre_norm=True,
            activation="gelu",
            norm_epsilon=1e-5,
            mean=CLIP_MEAN,
            std=CLIP_STD,
        ),
        text=TextTowerConfig(
            vocabulary=32_000, length=32, width=256, depth=6, heads=4, hidden=1024
        ),
        embedding=256,
    )
    return Experiment(
        name="clip-sweep",
        task=CLIPTask(model=model),
        data=DataConfig(
            sources=(SourceConfig(url="corpus/shards/train-*.tar"),),
            image_size=112,
            text_length=32,
            styled=False,
            augment=AugmentConfig(scale=(0.5, 1.0), flip=0.0),
        ),
        tokenizer="corpus/tokenizer",
        global_batch_size=1024,
        duration="3 epochs",
        optimizer=AdamW(learning_rate=1e-3, warmup="5%", b2=0.98, weight_decay=0.2),
    )
