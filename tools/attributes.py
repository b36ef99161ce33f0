"""Attributes of things in pictures (slide 3.1), on the shop and on real product photos.

    KMM_DATA_DIR=FOLDER python -m tools.attributes       # an hour and a quarter on two cores
    python -m tools.attributes --steps 60 --pretraining 60 --rows 600 --held-out 90    # a try

A CLIP is trained on texts; from it begin three models of the same length: one that is never told a
category, and two that are, by both ways of fusion. On real photos beside them that CLIP, trained on
texts for as long again: zero-shot, and a linear probe of its vectors for each key.
``docs/results/attributes.*`` is written at the end; what is done is not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.files import atomic_directory, read_json, write_json
from tools import results, shop_runs

VOCABULARY = 1500
SIZE = 48
_TITLES = {
    "zero_shot": "CLIP of the products' texts, zero-shot",
    "probe": "linear probe of that CLIP",
    "blind": "never told a category",
    "concat": "category by an MLP (concat)",
    "attend": "category attends to patches (attend)",
}


class _Part:
    """Some of a source's rows."""

    def __init__(self, source: Any, start: int, stop: int) -> None:
        self.name, self._source, self._start = source.name, source, start
        self._rows = min(stop, len(source)) - start

    def __len__(self) -> int:
        return self._rows

    def read(self, number: int) -> Any:
        """Row ``number`` of the part."""
        return self._source.read(self._start + number)


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Shards with their tokenizer; of ``test`` the first ``held_out`` rows calibrate."""

    name: str
    folder: Path
    held_out: int

    @property
    def train(self) -> str:
        """What is trained on."""
        return str(self.folder / "train-*.tar")

    @property
    def test(self) -> str:
        """What is asked about."""
        return str(self.folder / "test-*.tar")


def shop(work: Path, *, rows: int, held_out: int) -> World:
    """The shop with the attributes of each thing, made once."""
    from kmm_jax.data.shop import write_shop

    folder = work / f"shop-{rows}"
    write_shop(folder, train=rows, test=3 * held_out, seed=0, image_size=SIZE, attributes=True)
    return _with_tokenizer(World(name="shop", folder=folder, held_out=held_out))


def products(work: Path, data: Path) -> World:
    """Fashion Product Images (Small), made once."""
    from kmm_jax.data.datasets import open_rows
    from kmm_jax.data.shards import ShardWriter

    folder = work / "products"
    if not folder.is_dir():
        with atomic_directory(folder) as place:
            for split in ("train", "test"):
                with ShardWriter(place, prefix=split) as writer:
                    for record, image in open_rows("fashion_products", data, split):
                        writer.write(record, image)
    return _with_tokenizer(World(name="products", folder=folder, held_out=300))


def _with_tokenizer(world: World) -> World:
    if not (world.folder / "tokenizer").is_dir():
        shop_runs.train_tokenizer(world.folder, VOCABULARY)
    return world


_NEW = "(fusion|gate)(/.*)?"
"""Parameters that a model has above the CLIP it begins from."""


def variants(world: World, *, steps: int, pretraining: int, seed: int) -> dict[str, Any]:
    """The CLIP of texts, and by name the experiments that begin from it and are compared."""
    from kmm_jax.data.config import SourceConfig
    from kmm_jax.training.config_file import load_experiment

    named = load_experiment(f"attributes/{world.name}")
    sources = (SourceConfig(url=world.train),)
    base = dataclasses.replace(
        named,
        data=dataclasses.replace(named.data, sources=sources, seed=seed),
        tokenizer=str(world.folder / "tokenizer"),
        duration=f"{steps} steps",
        seed=seed,
    )

    def of(name: str, *, alone: float, fusion: str) -> Any:
        model = dataclasses.replace(base.task.model, fusion=fusion)
        return dataclasses.replace(
            base,
            name=f"{world.name}-{name}",
            task=dataclasses.replace(base.task, model=model),
            data=dataclasses.replace(base.data, alone=alone),
        )

    found = {
        "blind": of("blind", alone=1.0, fusion="attend"),
        "concat": of("concat", alone=base.data.alone, fusion="concat"),
        "attend": of("attend", alone=base.data.alone, fusion="attend"),
    }
    # Its batches hold statements for the task's sake; one in a million is drawn.
    texts = (("product_name", 1.0), ("caption", 1.0), ("query", 1.0), ("statements", 1e-6))
    of_texts = dataclasses.replace(
        of("texts", alone=1.0, fusion="attend"),
        data=dataclasses.replace(base.data, fields=texts, alone=1.0),
    )
    if world.name == "products":
        found["zero_shot"] = of_texts
    return {"clip": dataclasses.replace(of_texts, duration=f"{pretraining} steps"), **found}


def measure(run: Path, world: World) -> dict[str, float]:
    """Every score of a run on the test rows, kept beside it."""
    from kmm_jax.data.sources import open_source
    from kmm_jax.data.statements import described
    from kmm_jax.evaluation.attributes import ask_attributes, calibrate, score_attributes
    from kmm_jax.inference import load
    from kmm_jax.inference.attributes import AttributeSearch, vocabulary_of

    kept = run / "measured.json"
    if found := read_json(kept):
        return dict(found)
    model = load(run)
    train, test = open_source(world.train), open_source(world.test)
    rows = (described(train.read(number).record) for number in range(len(train)))
    search = AttributeSearch(model, vocabulary_of((one for one in rows if one), least=5))

    def asked(start: int, stop: int) -> Any:
        return ask_attributes(
            _Part(test, start, stop),
            lambda images, names: search.scores(images, names, batch_size=128),
            search.vocabulary.attributes,
            image_size=model.image_size,
            batch_size=128,
        )

    calibration = calibrate(asked(0, world.held_out))
    table = score_attributes(
        asked(world.held_out, len(test)), name=world.name, calibration=calibration
    )
    found = dict(table.metrics())
    write_json(kept, found)
    return found


def probe(run: Path, world: World) -> dict[str, float]:
    """Right values by key of a linear probe on the vectors of pictures, kept beside the run."""
    from kmm_jax.data.sources import open_source
    from kmm_jax.data.statements import described
    from kmm_jax.evaluation.probe import linear_probe
    from kmm_jax.inference import load

    kept = run / "probe.json"
    if found := read_json(kept):
        return dict(found)
    model = load(run)
    sides = {}
    for name, source in (("train", open_source(world.train)), ("test", open_source(world.test))):
        start = world.held_out if name == "test" else 0
        rows = [source.read(number) for number in range(start, len(source))]
        truths = []
        for row in rows:
            said = described(row.record)
            truths.append({} if said is None else {x.key: x.value for x in said.attributes()})
        sides[name] = model.embed_image([row.image for row in rows]), truths
    found = {}
    for key in sorted({key for truth in sides["train"][1] for key in truth}):
        chosen = {
            name: [place for place, truth in enumerate(truths) if key in truth]
            for name, (_, truths) in sides.items()
        }
        labels = {
            name: [sides[name][1][place][key] for place in places]
            for name, places in chosen.items()
        }
        if len(set(labels["train"])) > 1 and labels["test"]:
            vectors = {name: sides[name][0][places] for name, places in chosen.items()}
            answered = linear_probe(
                vectors["train"], labels["train"], vectors["test"], labels["test"], label=key
            )
            (score, *_) = answered.table.scores
            found[f"alone/value/{key}"] = score.value
    found["alone/value"] = sum(found.values()) / len(found)
    write_json(kept, found)
    return found


def body(values: Mapping[str, Any]) -> str:
    """For each world a table of groups, and one of keys."""
    parts = []
    for world, rows in values["worlds"].items():
        parts += [f"## {world}", "", _groups(rows), ""]
        parts += ["Right values by key, with the category (the probe's of the picture):", ""]
        parts += [_keys(rows), ""]
    return "\n".join(parts)


def _percent(scores: Mapping[str, float], *names: str) -> str:
    """The first of these scores that there is."""
    found = [scores[name] for name in names if name in scores]
    return shop_runs.percent(found[0]) if found else ""


def _groups(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Pictures alone and with a category, and those of several things apart."""
    first = rows["attend"]
    names = ("value", "precision@5", "kind@5")
    lines = []
    for group in ("alone", "category", "several/alone", "several/category"):
        if f"{group}/value" not in first:
            continue
        chance = [_percent(first, f"{group}/chance_{name}") for name in names]
        lines.append((group, "the commonest", *chance))
        lines += [
            (group, _TITLES[row], *(_percent(scores, f"{group}/{name}") for name in names))
            for row, scores in rows.items()
            if f"{group}/value" in scores
        ]
    columns = ("right values %", "precision@5 %", "right kind@5 %")
    return results.table(("asked about", "model", *columns), lines)


def _keys(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Right values of each key, and how far off its probabilities are."""
    first, prefix = rows["attend"], "category/value/"
    lines = []
    for name in sorted(name for name in first if name.startswith(prefix)):
        key = name.removeprefix(prefix)
        if key.startswith("chance_"):
            continue
        error = first.get(f"calibration_error/{key}")
        lines.append(
            (
                key,
                _percent(first, f"{prefix}chance_{key}"),
                *(_percent(scores, name, f"alone/value/{key}") for scores in rows.values()),
                "" if error is None else f"{error:.3f}",
            )
        )
    titles = [_TITLES[name] for name in rows]
    return results.table(("key", "the commonest", *titles, "calibration error (attend)"), lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.attributes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--pretraining", type=int, default=1200, help="steps of the CLIP of texts")
    parser.add_argument("--rows", type=int, default=6000, help="of the shop, to train on")
    parser.add_argument("--held-out", type=int, default=300, help="rows to calibrate on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/attributes"))
    parser.add_argument("--data", type=Path, help="default: KMM_DATA_DIR; none: the shop alone")
    arguments = parser.parse_args()
    data = arguments.data or Path(os.environ.get("KMM_DATA_DIR") or "none")
    try:
        worlds = [shop(arguments.work, rows=arguments.rows, held_out=arguments.held_out)]
        if data.is_dir():
            worlds.append(products(arguments.work, data))
        found: dict[str, dict[str, Any]] = {}
        for world in worlds:
            rows = found.setdefault(world.name, {})
            compared = variants(
                world,
                steps=arguments.steps,
                pretraining=arguments.pretraining,
                seed=arguments.seed,
            )
            clip = shop_runs.trained(compared.pop("clip"), arguments.work)
            runs = {
                name: shop_runs.trained(experiment, arguments.work, initial=clip, fresh=_NEW)
                for name, experiment in compared.items()
            }
            rows |= {name: measure(run, world) for name, run in runs.items()}
            if "zero_shot" in runs:
                rows["probe"] = probe(runs["zero_shot"], world)
    except UserError as error:
        print(f"attributes: {error}", file=sys.stderr)
        return 2
    values = {
        "steps": arguments.steps,
        "pretraining": arguments.pretraining,
        "worlds": found,
    }
    setting = (
        f"Towers of `configs/attributes`. All begin from a CLIP of {arguments.pretraining} steps "
        f"on names, captions and queries, and are trained for {arguments.steps} steps of 128 "
        f"statements (the CLIP: texts) each, one seed; the shop with {arguments.rows} pictures, a "
        "fifth of them of two or three things. "
        "Asked about held-out rows: each picture alone, and with the name of every category that "
        "something in it falls under (several: pictures of several things). A value is right if "
        "the best one of its key is true of what was asked about; of all attributes, the five "
        "likeliest are counted by truth (precision); of those under keys that not nearly "
        "everything has, by whether things of that kind have the key at all (right kind). The "
        "commonest: always the same answer."
    )
    results.write(
        "attributes",
        title="Attributes of things in pictures",
        command=f"python -m tools.attributes --steps {arguments.steps} "
        f"--pretraining {arguments.pretraining} --rows {arguments.rows} "
        f"--held-out {arguments.held_out} --seed {arguments.seed}",
        values=values,
        body=f"{setting}\n\n{body(values)}",
    )
    print(body(values))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
