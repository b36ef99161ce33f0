r"""OneR ViT-B/16, 40 epochs of CC3M: the exact table of slides 3.3, for whoever has the data.

    kmm table oner/cc3m --output RUNS            # every row, then the table beside the talk's
    kmm train oner/cc3m --run-dir RUN            # one row: oner/cc3m:itc

`data/cc3m` holds train-*.tar (shards of this library, CC3M's captions) and tokenizer;
imagenet-val-*.tar and imagenet-train-*.tar (shuffled) with the label `class`; imagenet_en.json,
those classes and CLIP's 80 templates (`kmm_jax.evaluation.classes`); coco-*.tar, Karpathy's 5,000
test images with all five captions. CLIP and SLIP are the recipes `clip/b16` and `slip/b16`. What
the talk leaves open is our choice: MoCo v3's head, temperature, momentum, learning rate (1.5e-4 for
256 pairs) and weight decay; but patches and positions are trained, and AdamW's second decay is
CLIP's. `kmm table` runs on one host; over several, train row by row with `kmm train oner/cc3m:ROW`.

The talk's own figures stand below and are printed beside.
"""

import dataclasses

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.evaluation.dataset import EvaluationData
from kmm_jax.evaluation.modality_gap import ModalityGapEvaluator
from kmm_jax.models.oner.config import oner_b16
from kmm_jax.tables.config import Measures, Probe, Retrieval, Table, ZeroShot
from kmm_jax.tasks.oner import OneRTask
from kmm_jax.tasks.oner_rows import ablations, one_tower_rows
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.teacher import Teacher

FOLDER = "data/cc3m"
# ImageNet zero-shot, COCO TR@1, TR@5, IR@1, IR@5 of slide 3.3.
PUBLISHED = {
    "clip": (17.1, 15.0, 34.8, 10.9, 26.7),
    "slip": (23.0, 21.7, 45.1, 15.6, 35.2),
    "itc": (1.6, 0.8, 2.5, 0.7, 2.2),
    "two_heads": (17.5, 10.4, 26.8, 10.7, 26.4),
    "xmc": (22.1, 25.2, 48.1, 15.2, 33.6),
    "cic": (22.9, 25.4, 48.1, 16.3, 35.5),
    "cmc": (23.7, 25.5, 48.2, 16.9, 36.9),
}
_COLUMNS = ("zero-shot class (en)", "TR@1", "TR@5", "IR@1", "IR@5")
CROP = AugmentConfig(scale=(0.5, 1.0), flip=0.0)


def experiment() -> Experiment:
    clip = load_experiment("clip/b16")
    return dataclasses.replace(
        clip,
        name="oner-cc3m",
        task=OneRTask(model=oner_b16(), cmc=1.0),
        data=dataclasses.replace(clip.data, augment=CROP, views=(CROP,)),
        teacher=Teacher(momentum=0.99),
        evaluators=(
            ModalityGapEvaluator(
                name="gap",
                every="5%",
                data=EvaluationData(
                    source=f"{FOLDER}/coco-*.tar",
                    tokenizer=f"{FOLDER}/tokenizer",
                    image_size=224,
                    text_length=77,
                ),
                field="caption",
                style=None,
            ),
        ),
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
    two_towers = {
        row: dataclasses.replace(load_experiment(f"{row}/b16"), evaluators=oner.evaluators)
        for row in ("clip", "slip")
    }
    imagenet = f"{FOLDER}/imagenet-val-*.tar"
    return Table(
        title="CC3M, ViT-B/16, 40 epochs (slides 3.3)",
        rows={
            **two_towers,
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
            # Fifty photos a class: of all 1.28M, the probe alone would take days.
            probe=Probe(
                train=f"{FOLDER}/imagenet-train-*.tar",
                test=imagenet,
                label="class",
                train_limit=50_000,
            ),
        ),
        published={
            row: dict(zip(_COLUMNS, values, strict=True)) for row, values in PUBLISHED.items()
        },
        folder=FOLDER,
    )
