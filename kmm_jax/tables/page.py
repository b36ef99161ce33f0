"""A measured table as people read it: the slide's form first, then what stands behind it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.files import atomic_write, write_json
from kmm_jax.tables.config import Table
from kmm_jax.tables.measure import name_of
from kmm_jax.tasks.oner_rows import ABLATIONS, TITLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cells = Sequence[Mapping[str, Any]]

# (heading, task, score) of the slide's columns behind zero-shot, the talk's TR and IR.
_RETRIEVAL = (
    ("TR@1", "retrieval", "image_to_text/r1"),
    ("TR@5", "retrieval", "image_to_text/r5"),
    ("IR@1", "retrieval", "text_to_image/r1"),
    ("IR@5", "retrieval", "text_to_image/r5"),
)
# Colour-blind safe (Okabe and Ito), in the order of the table's rows.
_COLOURS = ("#000000", "#7f7f7f", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7")


def title_of(row: str) -> str:
    """A row's name for people."""
    name, at, _ = row.partition("@")
    title = TITLES.get(name) or ABLATIONS.get(name) or name
    return f"{title}, equal operations" if at else title


def deployed(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    """The measures of what a user of the row gets."""
    return next(iter(cell["outputs"].values()))


def spread(values: Sequence[float], *, share: bool = True) -> str:
    """``52.1 (50.3 to 54.0)``: the mean and, of several seeds, the range; shares in percent."""
    scale, digits = (100, 1) if share else (1, 3)
    shown = [f"{scale * value:.{digits}f}" for value in (min(values), max(values))]
    mean = f"{scale * statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({shown[0]} to {shown[1]})"


def markdown(table: Table, found: Cells) -> str:
    """The slide's table, then outputs, gaps, classifiers and localisation; no heading."""
    lines = [
        f"{table.title}. Of several seeds the mean, and the range in brackets; in percent. TR: the "
        "texts of an image are searched for, IR: the images of a text. Each row by the output a "
        "user gets (`kmm_jax.load`), which is named last under head.",
        "",
        *_slide(table, found),
        "",
        "Every output of every row: the student's projector and, as training compares them, its "
        "predictor for images against the projector for texts; the teacher's projector.",
        "",
        *_outputs(table, found),
        "",
        "The modality gap of the same: distance of the centroids of images and texts, cosine of "
        "true pairs and of others, and how well a linear classifier tells images from texts.",
        "",
        *_gaps(found),
    ]
    for heading, part in (("Frozen image vectors.", _frozen), ("Localisation.", _localised)):
        if more := part(found):
            lines += ["", heading, "", *more]
    return "\n".join(lines) + "\n"


def _rows(found: Cells) -> dict[str, list[Mapping[str, Any]]]:
    """Cells by row, in the table's order."""
    order = [*TITLES, *(f"{row}@flops" for row in TITLES), *ABLATIONS]
    rows = sorted({cell["row"] for cell in found}, key=lambda row: _place(order, row))
    return {row: [cell for cell in found if cell["row"] == row] for row in rows}


def _place(order: Sequence[str], row: str) -> int:
    return order.index(row) if row in order else len(order)


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "|".join(["---"] + ["---:"] * (len(heads) - 1)) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _across(
    cells: Cells, of: Callable[[Mapping[str, Any]], Any], task: str, score: str, share: bool = True
) -> str:
    values = [of(cell)[task][score] for cell in cells if task in of(cell)]
    return spread(values, share=share) if values else ""


def _zero_shot(table: Table) -> list[tuple[str, str, str]]:
    return [
        (f"zero-shot {name_of(one)}", f"zero_shot/{name_of(one)}", "plain/top1")
        for one in table.measures.zero_shot
    ]


def _slide(table: Table, found: Cells) -> list[str]:
    columns = [*_zero_shot(table), *_RETRIEVAL]
    rows = [
        [
            title_of(row),
            _seeds(cells),
            *(_across(cells, deployed, task, score) for _, task, score in columns),
            f"{cells[0]['examples']:,}",
            f"{cells[0]['examples'] * cells[0]['flops_per_example'] * 3 / 1e15:.3f}",
            f"{cells[0]['parameters'] / 1e6:.2f}M",
            str(cells[0]["embedding"]),
            cells[0]["head"],
        ]
        for row, cells in _rows(found).items()
    ]
    chances = [f"{_chance(found, task, score):.1f}" for _, task, score in columns]
    rows.append(["chance", "", *chances, *[""] * 5])
    if table.published:
        names = [head for head, _, _ in columns]
        for row, values in table.published.items():
            said = [f"{values[name]:.1f}" if name in values else "" for name in names]
            rows.append([f"{title_of(row)}, published", "", *said, *[""] * 5])
    heads = ["Method", "seeds", *(head for head, _, _ in columns), "pairs seen", "PFLOP",
             "parameters", "dimensions", "head"]  # fmt: skip
    return _lines(heads, rows)


def _seeds(cells: Cells) -> str:
    return ", ".join(str(cell["seed"]) for cell in cells)


def _chance(found: Cells, task: str, score: str) -> float:
    group, _, last = score.rpartition("/")
    return 100 * float(deployed(found[0])[task][f"{group}/chance_{last}"])


def _outputs(table: Table, found: Cells) -> list[str]:
    columns = [*_zero_shot(table)[:2], _RETRIEVAL[1], _RETRIEVAL[3]]
    rows = []
    for row, cells in _rows(found).items():
        for name in cells[0]["outputs"]:

            def of(cell: Mapping[str, Any], name: str = name) -> Mapping[str, Any]:
                return cell["outputs"].get(name, {})

            scores = [_across(cells, of, task, score) for _, task, score in columns]
            rows.append([title_of(row), _named(cells, name), _seeds(cells), *scores])
    heads = ["Method", "head: output", "seeds", *(head for head, _, _ in columns)]
    return _lines(heads, rows)


def _named(cells: Cells, output: str | None = None) -> str:
    """A row's head and one of its outputs; by default that which is deployed."""
    head, outputs = cells[0]["head"], cells[0]["outputs"]
    output = output or next(iter(outputs))
    return head if output == "model" else f"{head.rpartition(', ')[0]}: {output}"


def _gaps(found: Cells) -> list[str]:
    columns = (
        ("distance", "distance", False),
        ("true pairs", "pair_cosine", False),
        ("other pairs", "random_cosine", False),
        ("told apart, %", "separability", True),
    )
    rows = []
    for row, cells in _rows(found).items():
        for name in cells[0]["outputs"]:

            def of(cell: Mapping[str, Any], name: str = name) -> Mapping[str, Any]:
                return cell["outputs"].get(name, {})

            scores = [
                _across(cells, of, "modality_gap", score, share) for _, score, share in columns
            ]
            found_too = _across(cells, of, "retrieval", "image_to_text/r5")
            rows.append([title_of(row), _named(cells, name), *scores, found_too])
    return _lines(["Method", "head: output", *(head for head, _, _ in columns), "TR@5"], rows)


def _frozen(found: Cells) -> list[str]:
    if "linear_probe" not in deployed(found[0]):
        return []
    return _lines(
        ["Method", "head: output", "linear probe", "k-NN"],
        [
            [
                title_of(row),
                _named(cells),
                _across(cells, deployed, "linear_probe", "top1"),
                _across(cells, deployed, "knn", "top1"),
            ]
            for row, cells in _rows(found).items()
        ],
    )


def _localised(found: Cells) -> list[str]:
    first = deployed(found[0]).get("localisation")
    if first is None:
        return []
    columns = [
        (f"{measure}, {group}", f"{group}/{measure}")
        for group in ("several", "all")
        if f"{group}/pointing" in first
        for measure in ("pointing", "errors_gone", "iou")
    ]
    rows = [
        [
            title_of(row),
            _named(cells),
            *(_across(cells, deployed, "localisation", score) for _, score in columns),
        ]
        for row, cells in _rows(found).items()
    ]
    for who, name in (("the centre", "centre"), ("any of the things", "blind")):
        guess = [
            f"{100 * first[score.replace('pointing', name)]:.1f}" if "pointing" in score else ""
            for _, score in columns
        ]
        rows.append([who, "", *guess])
    return [
        *_lines(["Method", "head: output", *(head for head, _ in columns)], rows),
        "",
        f"{first['protocol']}",
    ]


def curves(found: Cells) -> Figure:
    """The gap over training beside what it is worth nothing without: recall of the same pairs."""
    from matplotlib.figure import Figure

    parts = (
        ("distance", "centroid distance"),
        ("pair_cosine", "cosine of true pairs"),
        ("image_to_text/r5", "TR@5"),
    )
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    axes = figure.subplots(1, len(parts))
    rows = {row: cells for row, cells in _rows(found).items() if any(c["curve"] for c in cells)}
    order = list(TITLES)
    for row, cells in rows.items():
        number = order.index(row) if row in order else len(order)
        steps = [point["step"] for point in cells[0]["curve"]]
        for axis, (name, _) in zip(axes, parts, strict=True):
            lines = [[point.get(name) for point in cell["curve"]] for cell in cells]
            mean = [statistics.fmean(at) for at in zip(*lines, strict=False) if None not in at]
            axis.plot(
                steps[: len(mean)],
                mean,
                color=_COLOURS[number % len(_COLOURS)],
                label=title_of(row),
                marker="o",
                markersize=3,
            )
    for axis, (_, title) in zip(axes, parts, strict=True):
        axis.set_title(title)
        axis.set_xlabel("steps")
        axis.grid(alpha=0.3)
    if rows:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def write(table: Table, found: Cells, folder: Path) -> Path:
    """``table.md``, ``table.json`` and ``gap.svg`` into a folder; returns the first."""
    from kmm_jax.evaluation.figures import svg

    write_json(folder / "table.json", {"title": table.title, "cells": list(found)})
    with atomic_write(folder / "gap.svg", "w") as file:
        file.write(svg(curves(found)))
    with atomic_write(folder / "table.md", "w") as file:
        file.write(f"# {table.title}\n\n{markdown(table, found)}\n![gap](gap.svg)\n")
    return folder / "table.md"
