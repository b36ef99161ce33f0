"""The smallest rung of OneR's table: the shop's at 16 pixels, one layer and two steps of 8 pairs.

The folder of its data is named by KMM_TINY_SHOP.
"""

import dataclasses
import os

from kmm_jax.tables.config import Table
from kmm_jax.tables.run import relocated
from kmm_jax.training import overrides
from kmm_jax.training.config_file import load_config

_RUN = (
    "duration=2 steps",
    "global_batch_size=8",
    "optimizer.warmup=1 steps",
    "checkpoint.every=1 steps",
    "data.image_size=16",
    "data.threads=1",
    "task.model.vision.image_size=16",
    "task.model.vision.stem=linear",
)
_ONE_TOWER = (
    "task.model.tower.depth=1",
    "task.model.tower.width=32",
    "task.model.tower.hidden=32",
    "task.model.head.hidden=16",
    "task.model.head.embedding=16",
)
_TWO_TOWERS = (
    "task.model.vision.width=32",
    "task.model.vision.depth=1",
    "task.model.vision.hidden=32",
    "task.model.text.depth=1",
    "task.model.text.width=32",
    "task.model.text.hidden=32",
    "task.model.embedding=16",
)


def tiny(experiment):
    model = experiment.task.model
    if hasattr(model, "tower"):
        sizes = _ONE_TOWER
    else:
        sizes = (*_TWO_TOWERS, *(("task.model.head.hidden=16",) if hasattr(model, "head") else ()))
    changed = overrides.apply(experiment, [*_RUN, *sizes])
    evaluators = tuple(
        dataclasses.replace(
            one, every="1 steps", data=dataclasses.replace(one.data, image_size=16, limit=16)
        )
        for one in changed.evaluators
    )
    return dataclasses.replace(changed, evaluators=evaluators)


def table() -> Table:
    shop = load_config("oner/shop", function="table", kind=Table)
    measures = dataclasses.replace(
        shop.measures,
        zero_shot=shop.measures.zero_shot[:2],
        probe=dataclasses.replace(shop.measures.probe, train_limit=48),
    )
    small = dataclasses.replace(
        shop,
        rows={row: tiny(experiment) for row, experiment in shop.rows.items()},
        ablations={row: tiny(experiment) for row, experiment in shop.ablations.items()},
        measures=measures,
        data=None,
    )
    return relocated(small, shop.folder, os.environ["KMM_TINY_SHOP"])
