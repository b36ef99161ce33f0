"""LiT: a new text tower for the locked image tower of a CLIP (arXiv 2111.07991).

    kmm train clip/lit --run-dir RUN --init clip-vit-base-patch16 \
        --init-fresh '(text|text_projection)/.*|log_scale' \
        data.sources.0.url=SHARDS tokenizer=TOKENIZER

The weights are OpenAI's ViT-B/16, in the folder that the Hugging Face Hub has them in; those of
LAION need `task.model.vision.activation=gelu`. Image tower and projection stay as they are, so that
an index of its vectors stays valid; a Korean text tower with a tokenizer of its own learns to read
them. Of every step the image tower takes the forward pass alone, without activations or moments.

Learning rate, batch, warm-up, clipping and the first temperature are those of the authors' released
recipe. Texts of 32 tokens (16 there) are our choice, for titles of shops.
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.clip.config import clip_b16
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW


def experiment() -> Experiment:
    model = clip_b16(vocabulary=32_000, activation="quick_gelu")
    text = dataclasses.replace(model.text, length=32, activation="gelu")
    return Experiment(
        name="clip-lit",
        task=CLIPTask(model=dataclasses.replace(model, text=text, temperature=0.1)),
        data=DataConfig(
            sources=(SourceConfig(url="data/train-*.tar"),),
            image_size=224,
            text_length=32,
            styled=False,
            augment=AugmentConfig(scale=(0.5, 1.0)),
        ),
        tokenizer="data/tokenizer",
        freeze="(image|image_projection)/.*",
        global_batch_size=4096,
        duration="20 epochs",
        optimizer=AdamW(
            learning_rate=1e-3,
            warmup="3%",
            b2=0.999,
            weight_decay=0.01,
            clip_norm=1.0,
        ),
    )
