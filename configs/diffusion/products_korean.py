"""The Korean text encoder of `diffusion/products`: taught by parallel texts, the UNet untouched.

    python -m tools.text_to_image      # makes texts, tokenizers and teacher, and trains this

The objectives are those that a UNet notices: what its cross-attention gathers, the ends of the
texts, and English again, so that it stays.
"""

import dataclasses

from kmm_jax.data.text_pairs import TextPairs
from kmm_jax.models.diffusion.distillation import DistillationConfig
from kmm_jax.tasks.text_distillation import TextDistillationTask, Weights
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW

FOLDER = "data/products"


def experiment() -> Experiment:
    generator = load_experiment("diffusion/products").task
    teacher = generator.model.texts[0]
    student = dataclasses.replace(
        teacher, tower=dataclasses.replace(teacher.tower, vocabulary=2500)
    )
    return Experiment(
        name="products-korean",
        task=TextDistillationTask(
            model=DistillationConfig(student=student, teacher=teacher, unet=generator.model.unet),
            weights=Weights(response=1.0, ends=0.5),
            schedule=generator.schedule,
            noise_rows=16,
        ),
        data=TextPairs(
            files=((f"{FOLDER}/wordings.tsv", 1.0),),
            teacher_tokenizer=f"{FOLDER}/english",
            text_length=teacher.tower.length,
        ),
        tokenizer=f"{FOLDER}/korean",
        global_batch_size=128,
        duration="1500 steps",
        optimizer=AdamW(learning_rate=1e-3, warmup="4%", weight_decay=0.01, b2=0.99),
        freeze="(teacher|responders)/.*",
        checkpoint=CheckpointConfig(every="50%", keep_latest=1),
        log_every="50 steps",
    )
