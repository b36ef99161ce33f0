"""CoCa as published: 2.1B parameters, 288 px (arXiv 2205.01917, table 1 and section 4.1).

    kmm train coca/2b --run-dir RUN data.sources.0.url=SHARDS tokenizer=TOKENIZER

Parameters and optimizer state are split over the 8 devices of a node (`mesh.fsdp`), the batch over
all; on 256 chips of 80 GB or more `mesh.fsdp=1` sends less (docs/scaling.md).
The paper's figure after 500,000 steps on its own data: ImageNet zero-shot 86.3.
"""

import dataclasses

from kmm_jax.models.coca.config import coca_2b
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.sharding import MeshConfig


def experiment() -> Experiment:
    model = coca_2b()
    model = dataclasses.replace(
        model,
        vision=dataclasses.replace(model.vision, remat="full"),
        text=dataclasses.replace(model.text, remat="full"),
    )
    return dataclasses.replace(
        load_experiment("coca/base"),
        name="coca-2b",
        task=CoCaTask(model=model),
        mesh=MeshConfig(data=-1, fsdp=8),
    )
