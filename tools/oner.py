"""The whole table of slides 3.3 at the size of a CPU: every row, seeds fixed beforehand.

    python -m tools.oner                         # hours on two processors; goes on where it stopped
    python -m tools.oner --rungs shop --seeds 0
    python -m tools.oner --write                 # tables from what is measured so far

The shop and, with ``KMM_DATA_DIR``, real product photos. Measures of each row and seed are kept in
``docs/results/oner/RUNG``; the tables, ``docs/results/oner.*``, say which are there. ``--pictures``
draws heat-maps and embedding maps of the shop's runs into ``docs/results/oner``.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax import cli
from kmm_jax.data.images import upright_size
from kmm_jax.data.sources import open_source
from kmm_jax.errors import UserError
from kmm_jax.evaluation.box_targets import targets_of
from kmm_jax.evaluation.figures import svg
from kmm_jax.files import atomic_write
from kmm_jax.planning.step import prepared, trace_step
from kmm_jax.tables import page
from kmm_jax.tables.config import Table
from kmm_jax.tables.run import Cell, already, cells, run
from kmm_jax.tasks.oner_rows import ABLATIONS, TITLES
from kmm_jax.training import sharding
from kmm_jax.training.config_file import load_config
from tools import results

RUNGS = ("shop", "products")
# Those of the aim have all seeds on both rungs, the others on the shop.
_MAIN = ("itc", "two_heads", "cmc")
# Of fewer there is no range to be beyond.
_LEAST_SEEDS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rungs", default=",".join(RUNGS))
    parser.add_argument("--seeds", default="0,1,2", help="fixed beforehand (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/oner"))
    parser.add_argument("--no-ablations", action="store_true")
    parser.add_argument("--write", action="store_true", help="run nothing")
    parser.add_argument("--pictures", action="store_true", help="of the shop's runs in --work")
    arguments = parser.parse_args(argv)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    for rung in arguments.rungs.split(","):
        table, wanted = _wanted(rung, seeds, ablations=not arguments.no_ablations)
        measured = results.FOLDER / "oner" / rung
        if not arguments.write:
            folder = os.environ.get("KMM_DATA_DIR")
            done = run(
                table,
                wanted,
                arguments.work / rung,
                measured=measured,
                folder=Path(folder) if folder else None,
                tell=lambda text: print(text, file=sys.stderr, flush=True),
            )
            if done is None:
                raise UserError("interrupted; the same command continues")
    if arguments.pictures:
        _draw(arguments.work / "shop")
    _write(seeds)
    return 0


def _wanted(rung: str, seeds: Sequence[int], *, ablations: bool) -> tuple[Table, list[Cell]]:
    """The cells of a rung, the main rows of a seed before the others of the next."""
    table: Table = load_config(f"oner/{rung}", function="table", kind=Table)
    wanted: list[Cell] = []
    for seed in seeds:
        if seed == seeds[0] or rung == RUNGS[0]:
            rows = list(table.rows)
        else:
            rows = list(_MAIN)
        wanted += cells(table, rows=rows, seeds=[seed])
    if ablations:
        wanted += cells(table, rows=list(table.ablations), seeds=seeds[:1])
        longer = cells(table, rows=_MAIN[-1:], seeds=seeds[:1], equal_flops=("clip", "two_heads"))
        wanted += [cell for cell in longer if cell.row.endswith("@flops")]
    return table, wanted


def _write(seeds: Sequence[int]) -> None:
    parts: list[str] = []
    values: dict[str, Any] = {"seeds": list(seeds)}
    for rung in RUNGS:
        table, wanted = _wanted(rung, seeds, ablations=True)
        found = list(already(table, results.FOLDER / "oner" / rung, wanted))
        missing = len(wanted) - len(found)
        parts += [f"## {table.title}", ""]
        if missing:
            left = [cell.name for cell in wanted if cell.name not in _names(found)]
            parts += [f"Not measured yet, {missing} of {len(wanted)}: {', '.join(left)}.", ""]
        if not found:
            continue
        main = [cell for cell in found if cell["row"] in TITLES]
        for cell in found:
            cell.pop("experiment")  # it stands beside, in the cell's own file
        values[rung] = {"cells": found, "claims": dict(_claims(main))}
        if main:
            parts += [*_said(main), "", *_why(found, seeds[0])]
        parts += [page.markdown(table, found)]
        with atomic_write(results.FOLDER / f"oner-{rung}-gap.svg", "w") as file:
            file.write(svg(page.curves(main)))
        parts += [f"![The gap over training](oner-{rung}-gap.svg)", ""]
    values["flops"] = _flops()
    parts += [
        "## What a step costs",
        "",
        "Operations of one training step of one pair at ViT-B/16 (`configs/oner/cc3m.py`): the sum "
        "of the encoder passes it needs, the student's forward and back and the teacher's forward, "
        "against the matrix products that JAX traces of the towers (the heads, which are in the "
        "sum, and the logits are not traced). In CIC each stream's keys and values are computed "
        "once.",
        "",
        results.table(
            ("row", "sum of passes, GFLOP", "traced, GFLOP", "ratio"),
            [
                (TITLES[row], one["passes"] / 1e9, one["traced"] / 1e9, one["ratio"])
                for row, one in values["flops"].items()
            ],
        ),
        "",
    ]
    drawn = {name: text for name, text in _PICTURES.items() if _picture(name).exists()}
    if drawn:
        parts += ["## Pictures", "", "Of the shop's held-out pictures, by the runs of seed 0.", ""]
    for name, text in drawn.items():
        parts += [text, "", f"![{text.partition('.')[0]}](oner/{name}.png)", ""]
    results.write(
        "oner",
        title="OneR: the ablation table of slides 3.3 at the size of a CPU",
        command="python -m tools.oner",
        values=values,
        body="\n".join([_PREFACE, *parts]),
    )


_PICTURES = {
    "heat-cmc": "OneR's heat-maps: similarity of each patch to a phrase, without Grad-CAM. A "
    "circle is the highest patch, a box what the map encloses; the last column is all phrases.",
    "heat-clip": "CLIP's heat-maps of the same, by Grad-CAM.",
    "map-itc": "ITC early and late: images and texts stay apart.",
    "map-cmc": "OneR early and late: images, texts, and both read in one pass.",
    "composed-together": "Composed retrieval: a picture and words that OneR reads in one pass.",
    "composed-sum": "Composed retrieval: the sum of the picture's vector and the words'.",
}


def _picture(name: str) -> Path:
    return results.FOLDER / "oner" / f"{name}.png"


_PREFACE = """At equal seed every row sees the same pairs in the same order, with the same
optimizer, learning rate and steps (rows of equal operations: more steps); none was tuned for a row.
Chosen beforehand for all rows of one tower: the teacher's momentum, for 300 steps; for SLIP: views
that keep the colours, of which the texts speak. One tower sees a second crop of each picture in its
teacher, SLIP two views, CLIP none. What stands for a patch in OneR's heat-maps ([CLS] given that
patch alone) was chosen among eight ways on the shop's test pictures, of the row CMC at seed 0; its
pointing there is in-sample. The setting is `configs/oner`. Date, versions and processor of
each row and seed stand in its own file under `docs/results/oner`.
"""


def _flops(batch: int = 8) -> dict[str, dict[str, float]]:
    """Of a step of one pair, by row: counted by hand, and traced."""
    rows = load_config("oner/cc3m", function="table", kind=Table).rows
    mesh = sharding.abstract_mesh(sharding.MeshConfig(data=1), 1)
    found = {}
    for row, experiment in rows.items():
        short = dataclasses.replace(
            experiment,
            global_batch_size=batch,
            duration="10 steps",
            optimizer=dataclasses.replace(experiment.optimizer, warmup="1 steps"),
        )
        traced = trace_step(short, prepared(short, mesh), flash_attention=True)
        total = sum(one.flops * one.times for one in traced.computation.operations) / batch
        passes = 3 * experiment.task.flops_per_example()
        found[row] = {"passes": passes, "traced": total, "ratio": total / passes}
    return found


def _names(found: Sequence[Mapping[str, Any]]) -> set[str]:
    return {f"{cell['row']}-seed{cell['seed']}" for cell in found}


def _scores(found: Sequence[Mapping[str, Any]], row: str, task: str, score: str) -> list[float]:
    return [page.deployed(cell)[task][score] for cell in found if cell["row"] == row]


def _main_task(found: Sequence[Mapping[str, Any]]) -> str:
    return next(task for task in page.deployed(found[0]) if task.startswith("zero_shot"))


def _claims(found: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The issue's aims, each as what was measured and whether it holds."""
    measures = {
        **{
            task.replace("_", "-").replace("/", " "): (task, "plain/top1")
            for task in page.deployed(found[0])
            if task.startswith("zero_shot/")
        },
        "TR@5": ("retrieval", "image_to_text/r5"),
        "IR@5": ("retrieval", "text_to_image/r5"),
    }
    for other in ("itc", "two_heads"):
        for name, where in measures.items():
            ours, theirs = (_scores(found, row, *where) for row in ("cmc", other))
            if min(len(ours), len(theirs)) >= _LEAST_SEEDS:
                yield (
                    f"{name}: {TITLES['cmc']} above {TITLES[other]} beyond the range of seeds",
                    min(ours) > max(theirs),
                )
    gaps = [_scores(found, row, "modality_gap", "distance") for row in ("cmc", "itc")]
    if all(gaps):
        ours, theirs = (statistics.fmean(values) for values in gaps)
        name = f"centroid gap at most half of ITC's ({ours:.3f} against {theirs:.3f})"
        yield name, ours <= theirs / 2
    if "localisation" in page.deployed(found[0]):
        gone = _scores(found, "cmc", "localisation", "several/errors_gone")
        if gone:
            mean = statistics.fmean(gone)
            yield (
                "half of the centre's pointing errors gone in pictures of several things "
                f"({100 * mean:.1f} %)",
                mean >= 0.5,
            )


def _talk() -> dict[str, tuple[float, ...]]:
    """The talk's table: ImageNet zero-shot first (CC3M, ViT-B/16, 40 epochs)."""
    published = load_config("oner/cc3m", function="table", kind=Table).published
    return {row: tuple(values.values()) for row, values in published.items()}


def _said(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The aims, and the slide's order against ours."""
    lines = ["Aims, at the output a user gets:", ""]
    lines += [f"- {'holds' if holds else 'missed'}: {name}" for name, holds in _claims(found)]
    lines += ["", "The slide's order of zero-shot, row by row against ours:", ""]
    task = _main_task(found)
    published = {row: values[0] for row, values in _talk().items()}
    order = sorted(published, key=lambda row: published[row])
    for lower, higher in itertools.pairwise(order):
        one, other = (_scores(found, row, task, "plain/top1") for row in (lower, higher))
        if not one or not other:
            continue
        if min(len(one), len(other)) < _LEAST_SEEDS:
            verdict = f"{len(one)} and {len(other)} seeds, too few to tell"
        elif min(other) > max(one):
            verdict = "holds, beyond the range of seeds"
        elif max(other) < min(one):
            verdict = "is the other way round, beyond the range of seeds"
        else:
            verdict = "cannot be told at these seeds"
        lines.append(
            f"- {TITLES[lower]} ({published[lower]}) below {TITLES[higher]} "
            f"({published[higher]}): {verdict} ({page.spread(one)} against {page.spread(other)})"
        )
    return lines


def _why(found: Sequence[Mapping[str, Any]], seed: int) -> list[str]:
    """How much of ITC's distance to CLIP each single change closes, at one seed."""
    cells = {cell["row"]: page.deployed(cell) for cell in found if cell["seed"] == seed}
    rows = [row for row in ABLATIONS if row in cells]
    if not {"itc", "clip"} <= cells.keys() or not rows:
        return []

    def distance(task: str, score: str, row: str = "clip") -> float:
        return cells[row][task][score] - cells["itc"][task][score]

    zero_shots = [(task, "plain/top1") for task in cells["clip"] if task.startswith("zero_shot")]
    # The zero-shot that tells most: where ITC is furthest below CLIP.
    named = max(zero_shots, key=lambda one: distance(*one))
    measures = (named, ("retrieval", "image_to_text/r5"))
    closed = {
        row: [distance(*one, row) / distance(*one) for one in measures]
        for row in ("itc", *rows, "clip")
    }
    of_itc = [row for row in rows if row.startswith("itc_")]
    most = [page.title_of(row) for row in of_itc if closed[row][0] >= 0.5]
    least = [page.title_of(row) for row in of_itc if max(closed[row]) < 0.1]
    name = named[0].replace("_", "-").replace("/", " ")
    return [
        "### Why naive ITC fails",
        "",
        f"At seed {seed}, at the output a user gets: what part of ITC's distance to CLIP each "
        f"change closes, in {name} and in TR@5. Of the changes to ITC alone close half of the "
        f"zero-shot or more: {_listed(most)}. Less than a tenth of either: {_listed(least)}.",
        "",
        results.table(
            ("row", f"{name}, %", "closed, %", "TR@5, %", "closed, %", "centroid gap"),
            [
                (
                    page.title_of(row),
                    *(
                        f"{100 * value:.1f}"
                        for (task, score), share in zip(measures, closed[row], strict=True)
                        for value in (cells[row][task][score], share)
                    ),
                    cells[row]["modality_gap"]["distance"],
                )
                for row in closed
            ],
        ),
        "",
    ]


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names) if names else "none"


def _draw(work: Path) -> None:
    """Maps of ITC and OneR early and late, and heat-maps on held-out pictures of several things."""
    test = str(work / "data/test-*.tar")
    for row in ("itc", "cmc"):
        folder = work / f"map-{row}"
        steps = sorted(
            int(path.name)
            for path in (work / f"runs/{row}-seed0/checkpoints").iterdir()
            if path.name.isdecimal()
        )
        _kmm(
            "map", str(work / f"runs/{row}-seed0"), test, "--output", str(folder),
            "--steps", f"{steps[0]},{steps[-1]}", "--field", "product_name", "--limit", "300",
        )  # fmt: skip
        _picture(f"map-{row}").write_bytes((folder / "map.png").read_bytes())
    images, phrases = _several(work, test)
    for row in ("clip", "cmc"):
        _kmm(
            "heatmap", str(work / f"runs/{row}-seed0"), *images,
            *(word for phrase in phrases for word in ("--phrase", phrase)),
            "--output", str(_picture(f"heat-{row}")),
        )  # fmt: skip

    _composed(work, test)


def _composed(work: Path, test: str) -> None:
    """A picture and words read in one pass by OneR, searched among the held-out pictures."""
    run, embedded, index = str(work / "runs/cmc-seed0"), work / "embedded", work / "index"
    for folder in (embedded, index):
        shutil.rmtree(folder, ignore_errors=True)
    _kmm("embed", run, test, "--output", str(embedded))
    _kmm("index", "build", str(embedded), "--output", str(index))
    source = open_source(test)
    rows = (source.read(number) for number in range(len(source)))
    first = next(row for row in rows if row.record.get("labels", {}).get("color") == "blue")
    picture = work / "composed.jpg"
    picture.write_bytes(first.image)
    for name, more in (("sum", ()), ("together", ("--together",))):
        _kmm(
            "search", str(index), "빨간색", "--image", str(picture), *more,
            "--sheet", str(_picture(f"composed-{name}")),
        )  # fmt: skip


def _several(work: Path, test: str, count: int = 3) -> tuple[list[str], list[str]]:
    """The first held-out pictures of two things, as files, and their phrases as in the tables."""
    source, images, phrases = open_source(test), [], []
    for number in range(len(source)):
        row = source.read(number)
        boxes = row.record["boxes"]
        if len(boxes) == 2 and len({box["type"] for box in boxes}) == 2:
            path = work / f"several-{len(images)}.jpg"
            path.write_bytes(row.image)
            images.append(str(path))
            found = targets_of(row.record, upright_size(row.image), phrase="full", image_size=32)
            phrases += [target.phrase for target in found.found]
        if len(images) == count:
            break
    return images, list(dict.fromkeys(phrases))


def _kmm(*words: str) -> None:
    if cli.main(words):
        raise UserError(f"kmm {' '.join(words)} failed")


if __name__ == "__main__":
    sys.exit(main())
