"""A multilingual CLIP: OpenAI's ViT-B/32, and XLM-RoBERTa Base for texts, from the weights of both.

    python -m tools.import_checkpoint xlm-roberta-base --image clip-vit-base-patch32 --output START
    kmm train clip/xlmr_b32 --init START tokenizer=START --run-dir RUN data.sources.0.url=SHARDS

The text tower is M-CLIP's: the mean of the tokens and a linear layer with a bias, which begins at
random. Learning rate and length of the run are a start for one's own search, not a paper's.
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.clip.config import clip_b32, clip_xlmr_b32
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW


def experiment() -> Experiment:
    text = dataclasses.replace(clip_xlmr_b32().text, projection="biased")
    return Experiment(
        name="clip-xlmr-b32",
        task=CLIPTask(model=dataclasses.replace(clip_b32(activation="quick_gelu"), text=text)),
        data=DataConfig(
            sources=(SourceConfig(url="data/pairs/train-*.tar"),),
            image_size=224,
            text_length=77,
            fields=(("caption", 1.0),),
            styled=False,
            augment=AugmentConfig(scale=(0.5, 1.0), flip=0.0),
        ),
        tokenizer="models/xlmr-b32",
        global_batch_size=4096,
        duration="5 epochs",
        optimizer=AdamW(learning_rate=1e-4, warmup="5%", b2=0.98, weight_decay=0.1),
    )
