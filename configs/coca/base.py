"""CoCa-Base as published: 383M parameters, 288 px (arXiv 2205.01917, table 1 and section 4.1).

    kmm train coca/base --run-dir RUN data.sources.0.url='gs://BUCKET/train-{000000..099999}.tar' \
        tokenizer=TOKENIZER        # a 64,000-token tokenizer: kmm tokenizer train

Hardware: any number of accelerators whose `data` x `fsdp` divides the batch of 65,536.
The paper's figure after 500,000 steps on its own data: ImageNet zero-shot 82.6. With style tokens
(slide 3.2) by default; `data.styled=false` is plain CoCa.
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.models.coca.config import coca_base
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import Adafactor
from kmm_jax.training.sharding import MeshConfig


def experiment() -> Experiment:
    model = coca_base()
    model = dataclasses.replace(
        model,
        vision=dataclasses.replace(model.vision, remat="full"),
        text=dataclasses.replace(model.text, remat="full"),
    )
    return Experiment(
        name="coca-base",
        task=CoCaTask(model=model, contrastive_weight=1.0, caption_weight=2.0),
        data=DataConfig(
            sources=(SourceConfig(url="data/korean/train-*.tar"),),
            image_size=288,
            text_length=64,
            augment=AugmentConfig(scale=(0.5, 1.0)),
        ),
        tokenizer="data/korean/tokenizer",
        global_batch_size=65_536,
        duration="500000 steps",
        optimizer=Adafactor(learning_rate=8e-4, warmup="2%", decay="linear", weight_decay=0.01),
        mesh=MeshConfig(data=-1, fsdp=1),
        ema=0.9999,
        checkpoint=CheckpointConfig(every="1000 steps", keep_latest=3),
        log_every="100 steps",
    )
