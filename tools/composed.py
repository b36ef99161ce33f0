"""Composed queries, parts of pictures and names, measured where the truth is known.

    KMM_DATA_DIR=FOLDER python -m tools.composed         # 20 minutes on two cores
    python -m tools.composed --steps 40 --name-steps 20 --kinds 2 --scenes 12    # a try

Composed queries and parts of pictures on the shop, names on real pictures (with KMM_DATA_DIR).
``docs/results/composed.*`` is written at the end; what is done is not done again.
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
from kmm_jax.files import read_json, write_json
from tools import composed_crops, composed_names, composed_queries, results, shop_runs

SIZE = 48
VOCABULARY = 1500


def shop_model(work: Path, *, rows: int, steps: int, seed: int) -> Path:
    """A CLIP trained on the shop."""
    from kmm_jax.data.config import SourceConfig
    from kmm_jax.data.shop import write_shop
    from kmm_jax.training.config_file import load_experiment

    folder = work / f"shop-{rows}"
    write_shop(folder, train=rows, test=50, seed=0, image_size=SIZE)
    tokenizer = folder / "tokenizer"
    if not tokenizer.is_dir():
        shop_runs.train_tokenizer(folder, VOCABULARY)
    named = load_experiment("clip/shop")
    sources = (SourceConfig(url=str(folder / "train-*.tar")),)
    return shop_runs.trained(
        dataclasses.replace(
            named,
            name="shop-clip",
            data=dataclasses.replace(named.data, sources=sources, seed=seed),
            tokenizer=str(tokenizer),
            duration=f"{steps} steps",
            seed=seed,
        ),
        work,
    )


def measured_shop(run: Path, *, kinds: int, scenes: int) -> dict[str, Any]:
    """Composed queries and parts of pictures, kept beside the run."""
    from kmm_jax.inference import load

    kept = run / f"composed-{kinds}-{scenes}-{results.source_digest(('kmm_jax', 'tools'))[:8]}.json"
    if found := read_json(kept):
        return dict(found)
    model = load(run)
    pictures = composed_queries.gallery(model, size=SIZE, kinds=kinds)
    found = {
        "queries": composed_queries.measure(model, pictures),
        "crops": composed_crops.measure(model, pictures, scenes=scenes),
    }
    write_json(kept, found)
    return found


def measured_names(work: Path, data: Path, *, steps: int, seed: int) -> dict[str, Any]:
    """Of each database whose pictures are there, kept in the folder of work."""
    found = {}
    for title, (name, field) in composed_names.DATABASES.items():
        world = composed_names.world(name, work, data)
        if world is None:
            continue
        runs = composed_names.models(world, work, steps=steps, seed=seed)
        digest = results.source_digest(("kmm_jax", "tools"))[:8]
        kept = work / f"names-{'-'.join(run.name for run in runs)}-{field}-{digest}.json"
        scores = read_json(kept)
        if not scores:
            scores = composed_names.measure(world, runs, field, work / f"names-{name}-{field}")
            write_json(kept, scores)
        found[title] = scores
    return found


def body(values: Mapping[str, Any]) -> str:
    """A table of each part."""
    shop = values["shop"]
    parts = ["## Composed queries", "", _queries(shop["queries"]), "", "## Parts of pictures", ""]
    parts += [_crops(shop["crops"]), ""]
    if values["names"]:
        parts += ["## Names", "", _names(values["names"]), ""]
    return "\n".join(parts)


def _interval(row: Mapping[str, float]) -> str:
    value, low, high = (shop_runs.percent(row[key]) for key in ("recall", "low", "high"))
    return f"{value} ({low}–{high})"


def _queries(found: Mapping[str, Any]) -> str:
    lines = []
    for task, said in composed_queries.TASKS.items():
        of_task = found["tasks"][task]
        for way, row in of_task["rows"].items():
            weight = "" if way in ("image alone", "text alone") else f"{row['weight']:g}"
            plain = row.get("recall_of_weight_1")
            lines.append(
                (
                    said,
                    way,
                    _interval(row),
                    weight,
                    "" if plain is None else shop_runs.percent(plain),
                )
            )
    table = results.table(
        ("query", "asked as", "recall@10, % (95 %)", "weight", "at weight 1, %"), lines
    )
    counts = ", ".join(f"{task}: {one['queries']}" for task, one in found["tasks"].items())
    return (
        f"Among {found['gallery']:,} pictures of one garment, two of each type, colour and "
        "pattern; what is looked for are the two whose one attribute is the wanted one and whose "
        "others are the picture's. The weight of each row was chosen on other queries. Queries "
        f"reported: {counts}.\n\n{table}"
    )


def _crops(found: Mapping[str, Any]) -> str:
    lines = [
        (
            name,
            _interval(row),
            shop_runs.percent(row["recall_of_part_alone"]),
            "" if name == "the whole picture" else f"{row['whole']:g}",
            row["floor"],
        )
        for name, row in found["rows"].items()
    ]
    table = results.table(
        ("searched by", "recall@10, % (95 %)", "the part alone, %", "share of the whole", "floor"),
        lines,
    )
    margins = ", ".join(
        f"{margin}: {shop_runs.percent(value)} %" for margin, value in found["margins"].items()
    )
    seen = "; ".join(
        f"{said}: the maximum lies in the box in {shop_runs.percent(one['pointing'])} %, the map "
        f"is flat in {shop_runs.percent(one['flat'])} %, mean overlap (IoU) "
        + ", ".join(
            f"{shop_runs.percent(value)} % at floor {name.removeprefix('iou_')}"
            for name, value in one.items()
            if name.startswith("iou_")
        )
        for said, one in found["seen"].items()
    )
    return (
        f"{found['scenes']} scenes of two or three garments; for each garment, the same type in "
        "the same colour and pattern among pictures of one garment. The share of the whole beside "
        "the part, and the floor of the heat-map, were chosen on half of the scenes, the other "
        f"half is reported ({found['reported']} garments). The boxes take "
        f"{shop_runs.percent(found['area'])} % of a picture. What the model sees of a garment, by "
        f"{seen}. By margin around the drawn box, on the first half: {margins}.\n\n{table}"
    )


def _names(found: Mapping[str, Any]) -> str:
    lines = []
    for title, scores in found.items():
        for stage, said in (
            ("model 0", "CLIP alone"),
            ("model 1", "CoCa alone"),
            ("united", "both united"),
            ("ranked again", "ranked again"),
        ):
            cells = []
            for top in (1, 5):
                name = f"{stage}/top{top}"
                value, low, high = (
                    shop_runs.percent(scores[f"{name}{end}"]) for end in ("", "_low", "_high")
                )
                cells.append(f"{value} ({low}–{high})")
            lines.append((title, said, *cells))
    rest = [
        (
            title,
            str(int(scores["pictures"])),
            str(scores["names"]),
            str(scores["database_pictures"]),
            shop_runs.percent(scores["among the candidates"]),
            shop_runs.percent(scores["none said of known"]),
            shop_runs.percent(scores["none said of unknown"]),
            f"{scores['calibration error']:.3f}",
        )
        for title, scores in found.items()
    ]
    columns = ("asked", "names", "pictures", "among candidates %", "none of known %",
               "none of unknown %", "calibration error")  # fmt: skip
    return (
        "Models of the shop's size, trained on the database's own pictures; asked about others. "
        "United by reciprocal ranks; ranked again by what 10 other pictures a class (of the "
        "products: half of the test rows) taught. There is no set of real places here. None of "
        "these: how often it is said of pictures whose name is in the database, and of the same "
        "pictures with their name taken out.\n\n"
        + results.table(("database", "by", "top 1, % (95 %)", "top 5, % (95 %)"), lines)
        + "\n\n"
        + results.table(("database", *columns), rest)
    )


def main() -> int:
    """Measure what is not yet measured, and write the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.composed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=1500, help="of the shop's model")
    parser.add_argument("--rows", type=int, default=8000, help="of the shop, to train on")
    parser.add_argument("--name-steps", type=int, default=600, help="of each model of names")
    parser.add_argument("--kinds", type=int, default=22, help="types of garments asked about")
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/composed"))
    parser.add_argument("--data", type=Path, help="default: KMM_DATA_DIR; none: the shop alone")
    arguments = parser.parse_args()
    data = arguments.data or Path(os.environ.get("KMM_DATA_DIR") or "none")
    try:
        run = shop_model(
            arguments.work, rows=arguments.rows, steps=arguments.steps, seed=arguments.seed
        )
        shop = measured_shop(run, kinds=arguments.kinds, scenes=arguments.scenes)
        names = (
            measured_names(arguments.work, data, steps=arguments.name_steps, seed=arguments.seed)
            if data.is_dir()
            else {}
        )
    except UserError as error:
        print(f"composed: {error}", file=sys.stderr)
        return 2
    said = {key: value for key, value in vars(arguments).items() if key not in ("work", "data")}
    values = {**said, "shop": shop, "names": names}
    results.write(
        "composed",
        title="Composed queries, parts of pictures, and names",
        command="python -m tools.composed "
        + " ".join(f"--{key.replace('_', '-')} {value}" for key, value in said.items()),
        values=values,
        body=f"A CLIP of `configs/clip/shop`, {arguments.steps} steps, one seed.\n\n{body(values)}",
    )
    print(body(values))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
