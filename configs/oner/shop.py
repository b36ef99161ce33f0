r"""OneR on the built-in Korean shop, and the whole table of slides 3.3: `kmm table oner/shop`.

    kmm data shards shop --limit 12000 --output data/shop
    kmm tokenizer train 'data/shop/train-*.tar' --vocab-size 1500 --output data/shop/tokenizer
    kmm train oner/shop --run-dir runs/oner-shop         # or a row: oner/shop:itc

The setting of MoCo v3 made small: 300 steps of 256 pairs; the momentum begins at 0.95, for in so
few steps a teacher of 0.99 would still be a fifth its random beginning at the end.
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.evaluation.dataset import EvaluationData
from kmm_jax.evaluation.modality_gap import ModalityGapEvaluator
from kmm_jax.models.oner.config import OneRConfig, oner_tiny
from kmm_jax.tables.config import Measures, Probe, Retrieval, Table, ZeroShot
from kmm_jax.tasks.oner import OneRTask
from kmm_jax.tasks.oner_rows import ablations, one_tower_rows
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.teacher import Teacher

FOLDER = "data/shop"
CROP = AugmentConfig(scale=(0.6, 1.0))


def _model() -> OneRConfig:
    """With vectors as wide as those of the rows with two towers."""
    tiny = oner_tiny(vocabulary=1500, image_size=32, text_length=16)
    return dataclasses.replace(tiny, head=dataclasses.replace(tiny.head, embedding=128))


def experiment() -> Experiment:
    return Experiment(
        name="oner-shop",
        task=OneRTask(model=_model(), cmc=1.0),
        data=DataConfig(
            sources=(SourceConfig(url=f"{FOLDER}/train-*.tar"),),
            image_size=32,
            text_length=16,
            styled=False,
            augment=CROP,
            views=(CROP,),
        ),
        tokenizer=f"{FOLDER}/tokenizer",
        global_batch_size=256,
        duration="300 steps",
        optimizer=AdamW(learning_rate=1e-3, warmup="40 steps", b2=0.98, weight_decay=0.05),
        teacher=Teacher(momentum=0.95),
        evaluators=(
            ModalityGapEvaluator(
                name="gap",
                every="10%",
                data=EvaluationData(
                    source=f"{FOLDER}/test-*.tar",
                    tokenizer=f"{FOLDER}/tokenizer",
                    image_size=32,
                    text_length=16,
                    limit=400,
                ),
                field="product_name",
                style=None,
            ),
        ),
        checkpoint=CheckpointConfig(every="10%", keep_latest=10),
    )


def table() -> Table:
    oner = experiment()

    def two_towers(name: str) -> Experiment:
        """As its own config has the model, in all else as the rows of one tower."""
        own = load_experiment(name)
        return dataclasses.replace(
            oner,
            task=own.task,
            teacher=None,
            data=dataclasses.replace(oner.data, views=own.data.views),
        )

    return Table(
        title="한국어 옷가게 · the built-in shop",
        rows={
            "clip": two_towers("clip/shop"),
            "slip": two_towers("slip/shop"),
            **one_tower_rows(oner),
        },
        ablations=ablations(oner),
        measures=Measures(
            zero_shot=tuple(
                ZeroShot(source=f"{FOLDER}/test-*.tar", classes=f"shop_{name}", label=label)
                for name, label in (
                    ("types", "type"),
                    ("colours", "color"),
                    ("patterns", "pattern"),
                )
            ),
            retrieval=Retrieval(source=f"{FOLDER}/test-*.tar", field="product_name"),
            probe=Probe(
                train=f"{FOLDER}/train-*.tar",
                test=f"{FOLDER}/test-*.tar",
                label="type",
                train_limit=3000,
            ),
            boxes=f"{FOLDER}/test-*.tar",
        ),
        folder=FOLDER,
        data="shop",
    )
