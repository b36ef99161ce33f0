"""Korean readers for the generator, one for each objective and seed, trained once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kmm_jax.generation.teaching import student_of, teacher_weights, with_student
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.tasks.text_distillation import Weights
from kmm_jax.training.config_file import load_experiment
from tools.text_to_image.data import World
from tools.text_to_image.stages import trained

OBJECTIVES: dict[str, Weights] = {
    "pooled": Weights(pooled=1.0),
    "position": Weights(position=1.0),
    "ends": Weights(ends=1.0),
    "response": Weights(response=1.0, ends=0.5),
    "noise": Weights(noise=1.0, ends=0.5),
}
_SENTENCES = 0.2  # weight of general sentences beside wordings of products


def student(name: str, world: World, generator: Path, work: Path, *, steps: int, seed: int) -> Path:
    """A folder of diffusers: the generator with a student's text encoder, its UNet untouched."""
    folder = work / "students" / f"{name}-{seed}"
    if folders.is_folder(folder):
        return folder
    teacher = folders.read(generator)
    experiment = load_experiment("diffusion/products_korean")
    model = dataclasses.replace(
        experiment.task.model,
        teacher=teacher.config.texts[0],
        student=student_of(teacher.config.texts[0], world.tokenizer("korean")),
        unet=teacher.config.unet,
        whole_unet=OBJECTIVES[name].noise > 0,
    )
    files = ((str(world.folder / "wordings.tsv"), 1.0),)
    if world.sentences:
        files = (*files, (str(world.folder / "sentences.tsv"), _SENTENCES))
    experiment = dataclasses.replace(
        experiment,
        name=f"korean-{name}-{seed}",
        task=dataclasses.replace(experiment.task, model=model, weights=OBJECTIVES[name]),
        data=dataclasses.replace(
            experiment.data,
            files=files,
            teacher_tokenizer=str(world.folder / "english"),
            seed=seed,
        ),
        tokenizer=str(world.folder / "korean"),
        duration=f"{steps} steps",
        freeze="(teacher|responders|unet)/.*" if model.whole_unet else "(teacher|responders)/.*",
        seed=seed,
    )
    run = work / "runs" / experiment.name
    trained(experiment, run, initial=teacher_weights(generator, experiment))
    folders.write(folder, with_student(teacher, run))
    return folder
