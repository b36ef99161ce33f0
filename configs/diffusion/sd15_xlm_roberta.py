"""A Korean text encoder for Stable Diffusion 1.x as it is: XLM-RoBERTa and 77 queries (slide 4.2).

    kmm train diffusion/sd15_xlm_roberta --init MODEL --run-dir runs/sd15-xlm-roberta \\
        data.files.0.0=PAIRS.tsv data.teacher_tokenizer=MODEL/tokenizer \\
        task.student_weights=XLM_ROBERTA_BASE tokenizer=@init

The student reads by XLM-RoBERTa's own tokenizer, so Korean needs no new tokens; 278M parameters of
the tower and 39M of the layers in which a query for each of the teacher's 77 positions gathers what
was read. Beside `diffusion/sd15_korean`, whose student begins as the teacher itself.
"""

import dataclasses

from kmm_jax.data.text_pairs import TextPairs
from kmm_jax.models.clip.config import XLMRobertaConfig
from kmm_jax.models.diffusion.config import ResampledTextEncoderConfig, sd15
from kmm_jax.models.diffusion.distillation import DistillationConfig
from kmm_jax.tasks.text_distillation import TextDistillationTask, Weights
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW

XLM_ROBERTA_BASE = XLMRobertaConfig(
    vocabulary=250_002, length=77, width=768, depth=12, heads=12, hidden=3072, remat="full"
)


def experiment() -> Experiment:
    model = sd15()
    teacher = dataclasses.replace(model.texts[0], dtype="bfloat16")
    student = ResampledTextEncoderConfig(
        tower=XLM_ROBERTA_BASE,
        positions=teacher.positions,
        width=teacher.width,
        depth=4,
        heads=12,
        hidden=3072,
        dtype="bfloat16",
    )
    return Experiment(
        name="sd15-xlm-roberta",
        task=TextDistillationTask(
            model=DistillationConfig(student=student, teacher=teacher, unet=model.unet, queries=64),
            weights=Weights(response=1.0, ends=0.5, pooled=0.1, replay=1.0),
            student_weights="data/xlm-roberta-base",
        ),
        data=TextPairs(
            files=(("data/sd15/pairs.tsv", 1.0),),
            teacher_tokenizer="data/sd15/english",
            text_length=student.length,
            teacher_length=teacher.length,
        ),
        tokenizer="@init",
        global_batch_size=512,
        duration="50000 steps",
        optimizer=AdamW(learning_rate=1e-4, warmup="1000 steps", weight_decay=0.01),
        freeze="(teacher|responders)/.*",
        checkpoint=CheckpointConfig(every="2000 steps"),
    )
