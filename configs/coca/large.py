"""CoCa-Large as published: 787M parameters, 288 px (arXiv 2205.01917, table 1 and section 4.1).

    kmm train coca/large --run-dir RUN data.sources.0.url=SHARDS tokenizer=TOKENIZER

Parameters and optimizer state are split over 4 devices (`mesh.fsdp`), the batch over all.
The paper's figure after 500,000 steps on its own data: ImageNet zero-shot 84.8.
"""

import dataclasses

from kmm_jax.models.coca.config import coca_large
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.sharding import MeshConfig


def experiment() -> Experiment:
    model = coca_large()
    model = dataclasses.replace(
        model,
        vision=dataclasses.replace(model.vision, remat="full"),
        text=dataclasses.replace(model.text, remat="full"),
    )
    return dataclasses.replace(
        load_experiment("coca/base"),
        name="coca-large",
        task=CoCaTask(model=model),
        mesh=MeshConfig(data=-1, fsdp=4),
    )
