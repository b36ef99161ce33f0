"""CLIP ViT-B/16 in SLIP's recipe, 40 epochs of a CC3M-sized set (arXiv 2112.12750, table 8).

    kmm train clip/b16 --run-dir RUN data.sources.0.url=SHARDS tokenizer=TOKENIZER

The CLIP row of the talk's OneR table (slide 3.3): ImageNet zero-shot 17.1 after CC3M. Its towers
are those of `slip/b16`, as in the paper. Gradients are not clipped, and the learning rate ends at
1e-5, as in the authors' code.
"""

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.slip.config import slip_b16
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW


def experiment() -> Experiment:
    return Experiment(
        name="clip-b16",
        task=CLIPTask(model=slip_b16().clip),
        data=DataConfig(
            sources=(SourceConfig(url="data/cc3m/train-*.tar"),),
            image_size=224,
            text_length=77,
            fields=(("caption", 1.0),),
            styled=False,
            augment=AugmentConfig(scale=(0.5, 1.0), flip=0.0),
        ),
        tokenizer="data/cc3m/tokenizer",
        global_batch_size=4096,
        duration="40 epochs",
        optimizer=AdamW(
            learning_rate=5e-4,
            warmup="1 epochs",
            final_fraction=1e-5 / 5e-4,
            b2=0.98,
            weight_decay=0.5,
            clip_norm=None,
        ),
    )
