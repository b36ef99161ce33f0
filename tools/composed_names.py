"""Names of real pictures: each model alone, all united, and ranked again.

Tiny-ImageNet's classes with a Korean name and Fashion Product Images' article types stand for the
names; there is no set of real places here, so the thirteen classes that are kinds of places
(lighthouse, suspension bridge, beach ...) are a database of their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.sources import open_source
from kmm_jax.errors import UserError
from kmm_jax.files import atomic_directory
from tools import shop_runs

PLACES = (
    "barn", "lighthouse", "dam", "fountain", "obelisk", "suspension bridge", "triumphal arch",
    "viaduct", "water tower", "cliff", "coral reef", "lakeshore", "beach",
)  # fmt: skip
SPLITS = ("train", "fit", "test")
VOCABULARY = 1500
CONFIGS = ("clip/shop", "coca/shop")

# What is asked by which field of which world.
DATABASES = {
    "Tiny-ImageNet, 148 classes in Korean": ("tiny_imagenet", "labels.name"),
    "of these the 13 kinds of places": ("tiny_imagenet", "labels.place"),
    "Fashion Product Images, article types in Korean": ("products", "attributes.종류"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Shards: of the database and its models, to fit the ranker, and to ask about."""

    folder: Path

    def split(self, name: str) -> str:
        """A glob."""
        return str(self.folder / f"{name}-*.tar")


def world(name: str, work: Path, data: Path) -> World | None:
    """The shards of a set, made once; None where it is not there."""
    folder = work / name
    if not folder.is_dir():
        try:
            rows = _tiny_imagenet(data) if name == "tiny_imagenet" else _products(data)
            first = next(rows)
        except UserError:
            return None
        with atomic_directory(folder) as place, contextlib.ExitStack() as stack:
            writers = {
                split: stack.enter_context(ShardWriter(place, prefix=split)) for split in SPLITS
            }
            for split, record, image in itertools.chain([first], rows):
                writers[split].write(record, image)
    if not (folder / "tokenizer").is_dir():
        shop_runs.train_tokenizer(folder, VOCABULARY)
    return World(folder=folder)


def _tiny_imagenet(data: Path) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Of each class 30 pictures for the database, 10 to fit on, 10 to ask about."""
    source = open_source(f"folder+tsv:{data}/photos/tiny_imagenet_ko_train.tar?caption=class_ko")
    seen: dict[str, int] = {}
    for number in range(len(source)):
        row = source.read(number)
        name, english = row.record["caption"], row.record["class_en"]
        count = seen[english] = seen.get(english, 0) + 1
        split = "train" if count <= 30 else "fit" if count <= 40 else "test"
        labels = {"name": name, **({"place": name} if english in PLACES else {})}
        texts = {"title": name, "caption": f"{name} 사진"}
        yield split, {"image_hash": row.key, **texts, "labels": labels}, row.image


def _products(data: Path) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """The library's own split; of its test rows every other one to fit on."""
    from kmm_jax.data.datasets import open_rows

    for record, image in open_rows("fashion_products", data, "train"):
        yield "train", record, image
    for number, (record, image) in enumerate(open_rows("fashion_products", data, "test")):
        yield SPLITS[1 + number % 2], record, image


def models(found: World, work: Path, *, steps: int, seed: int) -> list[Path]:
    """Two models that see differently: a CLIP, and a CoCa with its captions."""
    from kmm_jax.data.config import SourceConfig
    from kmm_jax.training.config_file import load_experiment

    runs = []
    for number, config in enumerate(CONFIGS):
        named = load_experiment(config)
        runs.append(
            shop_runs.trained(
                dataclasses.replace(
                    named,
                    name=f"{found.folder.name}-{named.name.partition('-')[0]}",
                    data=dataclasses.replace(
                        named.data,
                        sources=(SourceConfig(url=found.split("train")),),
                        seed=seed + number,
                    ),
                    tokenizer=str(found.folder / "tokenizer"),
                    duration=f"{steps} steps",
                    seed=seed + number,
                ),
                work,
            )
        )
    return runs


def measure(found: World, runs: Sequence[Path], field: str, folder: Path) -> dict[str, Any]:
    """Every score of a database of ``field``, built, fitted and asked about."""
    from kmm_jax.inference import load
    from kmm_jax.search.naming.asking import Namer
    from kmm_jax.search.naming.database import build
    from kmm_jax.search.naming.scoring import ask, fit_ranker, score

    shutil.rmtree(folder, ignore_errors=True)
    paths = [str(run.resolve()) for run in runs]
    build(folder, open_source(found.split("train")), paths, load=load, field=field)
    namer = Namer.open(folder, load)
    learned, _ = ask(namer, open_source(found.split("fit")), field, without=True)
    ranker = fit_ranker(namer, learned)
    ranker.save(folder)
    namer = Namer(namer.database, namer.encoders)
    asked, left_out = ask(namer, open_source(found.split("test")), field, without=True)
    table = score(namer, asked, left_out=left_out, name=field)
    weights = zip(ranker.features, ranker.weight_F.tolist(), strict=True)
    return {
        **dict(table.metrics()),
        "names": len(namer.database.members[0].names),
        "database_pictures": len(namer.database.members[0].images),
        "weights": dict(weights),
    }
