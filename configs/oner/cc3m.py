r"""OneR ViT-B/16, 40 epochs of CC3M: the exact table of slides 3.3, for whoever has the data.

    kmm table oner/cc3m --output RUNS            # every row, then the table beside the talk's
    kmm train oner/cc3m --run-dir RUN            # one row: oner/cc3m:itc

`data/cc3m` holds train-*.tar (WebDataset shards of this library, CC3M's captions) and tokenizer;
imagenet-val-*.tar has the label `class` and coco-*.tar, Karpathy's 5,000 test images, all five
captions. The CLIP and SLIP rows are the recipes of `clip/b16` and `slip/b16`. What the talk leaves
open is our choice: MoCo v3's optimizer (AdamW, 1.5e-4 for 256 pairs), head, temperature, momentum.

Published (talk): ImageNet zero-shot, COCO TR@1, TR@5, IR@1, IR@5
    CLIP 17.1 15.0 34.8 10.9 26.7; SLIP 23.0 21.7 45.1 15.6 35.2; ITC 1.6 0.8 2.5 0.7 2.2;
    two heads 17.5 10.4 26.8 10.7 26.4; XMC 22.1 25.2 48.1 15.2 33.6;
    XMC + CIC 22.9 25.4 48.1 16.3 35.5; CMC (OneR) 23.7 25.5 48.2 16.9 36.9.
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.models.oner.config import oner_b16
from kmm_jax.tables.config import Measures, Probe, Retrieval, Table, ZeroShot
from kmm_jax.tasks.oner import OneRTask
from kmm_jax.tasks.oner_rows import ablations, one_tower_rows
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.teacher import Teacher

FOLDER = "data/cc3m"
CROP = AugmentConfig(scale=(0.5, 1.0), flip=0.0)


def experiment() -> Experiment:
    clip = load_experiment("clip/b16")
    return dataclasses.replace(
        clip,
        name="oner-cc3m",
        task=OneRTask(model=oner_b16(), cmc=1.0),
        data=dataclasses.replace(clip.data, augment=CROP, views=(CROP,)),
        teacher=Teacher(momentum=0.99),
        optimizer=AdamW(
            learning_rate=1.5e-4 * 4096 / 256,
            warmup="5 epochs",
            b2=0.98,
            weight_decay=0.1,
            clip_norm=None,
        ),
    )


def table() -> Table:
    oner = experiment()
    imagenet = f"{FOLDER}/imagenet-val-*.tar"
    return Table(
        title="CC3M, ViT-B/16, 40 epochs (slides 3.3)",
        rows={
            "clip": load_experiment("clip/b16"),
            "slip": load_experiment("slip/b16"),
            **one_tower_rows(oner),
        },
        ablations=ablations(oner),
        measures=Measures(
            zero_shot=(
                ZeroShot(
                    source=imagenet, classes=f"{FOLDER}/imagenet_en.json", label="class", lang="en"
                ),
            ),
            retrieval=Retrieval(source=f"{FOLDER}/coco-*.tar", field="caption"),
            probe=Probe(train=f"{FOLDER}/imagenet-train-*.tar", test=imagenet, label="class"),
        ),
        folder=FOLDER,
    )
