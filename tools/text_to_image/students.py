"""Korean readers for the generator, one for each objective and seed, trained once.

All begin as the teacher with rows for Korean but ``resampler``, an XLM-RoBERTa from nothing whose
queries gather a sequence of the teacher's form.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kmm_jax.data.parallel import read_pairs
from kmm_jax.generation.student import resampled_student_of, student_of
from kmm_jax.generation.teaching import teacher_weights, with_student
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.models.clip.config import XLMRobertaConfig
from kmm_jax.models.diffusion.config import (
    AnyTextConfig,
    ResampledTextEncoderConfig,
    TextEncoderConfig,
)
from kmm_jax.tasks.text_distillation import Weights
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.config_file import load_experiment
from tools.generator_runs import trained
from tools.text_to_image.data import LENGTH, World

OBJECTIVES: dict[str, Weights] = {
    "pooled": Weights(pooled=1.0),
    "position": Weights(position=1.0),
    "ends": Weights(ends=1.0),
    "response": Weights(response=1.0, ends=0.5),
    "noise": Weights(noise=1.0, ends=0.5),
    # As response; its pooled vector has a query of its own, which nothing else teaches.
    "resampler": Weights(response=1.0, ends=0.5, pooled=0.1),
}
_RESAMPLED = {
    "resampler": ResampledTextEncoderConfig(
        tower=XLMRobertaConfig(
            vocabulary=2500, length=LENGTH, width=192, depth=3, heads=4, hidden=768, positions=32
        ),
        positions=LENGTH,
        width=192,
        depth=2,
        heads=4,
        hidden=768,
    )
}
"""Readers of an architecture of their own, about 3M parameters."""
_SENTENCES = 0.2  # weight of general sentences beside wordings of products


def student(name: str, world: World, generator: Path, work: Path, *, steps: int, seed: int) -> Path:
    """A folder of diffusers: the generator with a student's text encoder, its UNet untouched."""
    folder = work / "students" / f"{name}-{seed}"
    if folders.is_folder(folder):
        return folder
    teacher = folders.read(generator)
    vocabulary = words(name, world, work)
    experiment = load_experiment("diffusion/products_korean")
    model = dataclasses.replace(
        experiment.task.model,
        teacher=teacher.config.texts[0],
        student=architecture(name, teacher.config.texts[0], Tokenizer.load(vocabulary)),
        unet=teacher.config.unet,
        whole_unet=OBJECTIVES[name].noise > 0,
    )
    experiment = dataclasses.replace(
        experiment,
        name=f"korean-{name}-{seed}",
        task=dataclasses.replace(experiment.task, model=model, weights=OBJECTIVES[name]),
        data=dataclasses.replace(
            experiment.data,
            files=tuple(_tables(world).items()),
            teacher_tokenizer=str(world.folder / "english"),
            seed=seed,
        ),
        tokenizer=str(vocabulary),
        duration=f"{steps} steps",
        freeze="(teacher|responders|unet)/.*" if model.whole_unet else "(teacher|responders)/.*",
        seed=seed,
    )
    run = work / "runs" / experiment.name
    trained(experiment, run, initial=teacher_weights(generator, experiment))
    folders.write(folder, with_student(teacher, run))
    return folder


def architecture(name: str, teacher: TextEncoderConfig, tokenizer: Tokenizer) -> AnyTextConfig:
    """Of a reader: its teacher's with rows for new tokens, or its own."""
    if name in _RESAMPLED:
        return resampled_student_of(teacher, tokenizer, _RESAMPLED[name])
    return student_of(teacher, tokenizer)


def words(name: str, world: World, work: Path) -> Path:
    """The tokenizer that a reader reads by: one extended with Korean, or of its own."""
    if name not in _RESAMPLED:
        return world.folder / "korean"
    folder = work / "reader-words"
    if not folder.is_dir():
        pairs = [pair for table in _tables(world) for pair in read_pairs(Path(table))]
        size = _RESAMPLED[name].vocabulary
        Tokenizer.train([text for pair in pairs for text in pair], vocab_size=size).save(folder)
    return folder


def _tables(world: World) -> dict[str, float]:
    """Parallel texts, with the weight of each table."""
    tables = {str(world.folder / "wordings.tsv"): 1.0}
    if world.sentences:
        tables[str(world.folder / "sentences.tsv")] = _SENTENCES
    return tables
