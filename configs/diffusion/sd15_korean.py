"""A Korean text encoder for Stable Diffusion 1.x as it is (slide 4.2).

    kmm tokenizer extend MODEL/tokenizer --texts TEXTS --new-tokens 16000 --output data/sd15/korean
    kmm train diffusion/sd15_korean --init MODEL --run-dir runs/sd15-korean \\
        data.files.0.0=PAIRS.tsv data.teacher_tokenizer=MODEL/tokenizer tokenizer=data/sd15/korean

The teacher is CLIP L/14's text tower, 123M parameters; the student has 16,000 rows more. Of the
UNet only keys and values of its 16 layers of cross-attention are held, with 64 queries each.
"""

import dataclasses

from kmm_jax.data.text_pairs import TextPairs
from kmm_jax.models.diffusion.config import sd15
from kmm_jax.models.diffusion.distillation import DistillationConfig
from kmm_jax.tasks.text_distillation import TextDistillationTask, Weights
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW

NEW_TOKENS = 16_000


def experiment() -> Experiment:
    model = sd15()
    teacher = dataclasses.replace(model.texts[0], dtype="bfloat16")
    tower = teacher.tower
    student = dataclasses.replace(
        teacher,
        tower=dataclasses.replace(
            tower, vocabulary=tower.vocabulary + NEW_TOKENS, pooling="eos", remat="full"
        ),
    )
    return Experiment(
        name="sd15-korean",
        task=TextDistillationTask(
            model=DistillationConfig(student=student, teacher=teacher, unet=model.unet, queries=64),
            weights=Weights(response=1.0, ends=0.5, replay=4.0),
        ),
        data=TextPairs(
            files=(("data/sd15/pairs.tsv", 1.0),),
            teacher_tokenizer="data/sd15/english",
            text_length=tower.length,
        ),
        tokenizer="data/sd15/korean",
        global_batch_size=512,
        duration="50000 steps",
        optimizer=AdamW(learning_rate=1e-4, warmup="1000 steps", weight_decay=0.01),
        freeze="(teacher|responders)/.*",
        checkpoint=CheckpointConfig(every="2000 steps"),
    )
