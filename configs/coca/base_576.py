"""CoCa-Base, the last epoch at 576 px (arXiv 2205.01917, section 4.1).

    kmm train coca/base_576 --run-dir RUN --init RUN_288 data.sources.0.url=SHARDS \
        tokenizer=TOKENIZER

Goes on from the parameters of a run at 288 px; positions are resized from 16 x 16 to 32 x 32.
"""

import dataclasses

from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment


def experiment() -> Experiment:
    base = load_experiment("coca/base")
    model = dataclasses.replace(
        base.task.model, vision=dataclasses.replace(base.task.model.vision, image_size=576)
    )
    return dataclasses.replace(
        base,
        name="coca-base-576",
        task=dataclasses.replace(base.task, model=model),
        data=dataclasses.replace(base.data, image_size=576),
        duration="1 epochs",
        optimizer=dataclasses.replace(base.optimizer, learning_rate=8e-5),
    )
