r"""OneR on real product photos with Korean texts, and its whole table: `kmm table oner/products`.

    KMM_DATA_DIR=FOLDER kmm table oner/products    # FOLDER/fashion/fashion_products.tar and .tsv

Fashion Product Images (Small), 6,500 photos to train on and 1,000 to test; every text is written
from a product's attributes. In all else the setting of `oner/shop`.
"""

import dataclasses

from kmm_jax.tables.config import Measures, Probe, Retrieval, Table, ZeroShot
from kmm_jax.tables.run import relocated
from kmm_jax.tasks.oner_rows import ablations, one_tower_rows
from kmm_jax.training.config_file import load_config, load_experiment
from kmm_jax.training.experiment import Experiment

FOLDER = "data/fashion_products"
LENGTH = 20


def experiment() -> Experiment:
    return dataclasses.replace(_here(load_experiment("oner/shop")), name="oner-products")


def _here(of_the_shop: Experiment) -> Experiment:
    """The same over this data, whose texts are longer."""
    moved: Experiment = relocated(of_the_shop, "data/shop", FOLDER)
    model = moved.task.model
    model = dataclasses.replace(model, text=dataclasses.replace(model.text, length=LENGTH))
    evaluators = tuple(
        dataclasses.replace(one, data=dataclasses.replace(one.data, text_length=LENGTH))
        for one in moved.evaluators
    )
    return dataclasses.replace(
        moved,
        task=dataclasses.replace(moved.task, model=model),
        data=dataclasses.replace(moved.data, text_length=LENGTH),
        evaluators=evaluators,
    )


def table() -> Table:
    oner = experiment()
    shop = load_config("oner/shop", function="table", kind=Table)
    test = f"{FOLDER}/test-*.tar"
    return Table(
        title="Fashion Product Images (Small)",
        rows={
            **{row: _here(shop.rows[row]) for row in ("clip", "slip")},
            **one_tower_rows(oner),
        },
        ablations=ablations(oner),
        measures=Measures(
            zero_shot=tuple(
                ZeroShot(source=test, classes=f"fashion_{name}", label=label)
                for name, label in (
                    ("article_types", "type"),
                    ("colours", "color"),
                    ("genders", "gender"),
                )
            ),
            retrieval=Retrieval(source=test, field="product_name"),
            probe=Probe(train=f"{FOLDER}/train-*.tar", test=test, label="type", train_limit=3000),
        ),
        folder=FOLDER,
        data="fashion_products",
    )
