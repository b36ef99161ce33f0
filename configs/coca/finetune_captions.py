"""A trained CoCa finetuned to caption, in Korean or English (slide 3.2; 2205.01917, table 10).

    kmm train coca/finetune_captions --run-dir RUN --init BASE \
        data.sources.0.url='data/coco/train-*.tar' tokenizer=TOKENIZER   # the base's own
    kmm train coca/finetune_captions ... data.fields.0.0=caption_en      # English captions

The records' field `caption` holds Korean captions, `caption_en` English ones. The hyperparameters
are the paper's for MSCOCO: 50,000 steps of 128, learning rate 1e-5 and cosine decay to 0, no
augmentation. Hardware: any number of accelerators that divides 128; `kmm plan` tells the days.

The paper trains with the captioning loss alone (`task.contrastive_weight=0`), after which a model
no longer retrieves (open_clip's B/32 fell from 63.3 to 0.8 on ImageNet). Here the contrastive loss
stays on with the weights of pretraining; what both ways do is in docs/results/caption_tuning.md.
The paper's figure after this: CIDEr 143.6 on MSCOCO, of the model with 2.1B parameters.
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import Adafactor


def experiment() -> Experiment:
    base = load_experiment("coca/base")
    return dataclasses.replace(
        base,
        name="coca-captions",
        task=dataclasses.replace(base.task, contrastive_weight=1.0, caption_weight=2.0),
        data=dataclasses.replace(
            base.data,
            fields=(("caption", 1.0),),
            augment=AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
        ),
        global_batch_size=128,
        duration="50000 steps",
        optimizer=Adafactor(
            learning_rate=1e-5, warmup="1000 steps", decay="cosine", weight_decay=0.1, clip_norm=1.0
        ),
        ema=None,
    )
