"""The table of thumbnails for people and programs."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kmm_jax.evaluation.thumbnails import Column, Figure, ThumbnailTable
from kmm_jax.files import atomic_write, write_json

JSON_NAME = "thumbnail.json"
MARKDOWN_NAME = "thumbnail.md"

_ROWS: tuple[tuple[str, Callable[[Column], Figure]], ...] = (
    ("Coverage", lambda column: column.coverage),
    ("Image_score > 2", lambda column: column.over_2),
    ("Image_score > 3", lambda column: column.over_3),
    ("Image_score ≤ 2 (저품질)", lambda column: column.poor),
    ("Image_score = 1 (위험)", lambda column: column.dangerous),
    ("Mean Image_score after filtering (필터 후 평균)", lambda column: column.mean),
)


def to_json(found: ThumbnailTable, about: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values; a floor that shows nothing is null."""
    values = dataclasses.asdict(found)
    for told, column in zip(values["columns"], found.columns, strict=True):
        floor = column.floor
        told["floor"] = floor and {
            "value": floor.value if math.isfinite(floor.value) else None,
            "shown": floor.shown,
            "bad": floor.bad,
            "labelled": floor.labelled,
            "bad_share": floor.bad_share,
            "limit_95": floor.limit,
        }
    return {"about": dict(about), **values}


def to_markdown(found: ThumbnailTable, about: Mapping[str, Any]) -> str:
    """The slide's table, a column each model, with what it rests on."""
    heads = [_cell(_head(column)) for column in found.columns]
    lines = ["# Smart thumbnail (slide 5.2)", ""]
    lines += [f"- {_cell(name)}: {_cell(value)}" for name, value in about.items()]
    partly = (
        "" if found.pairs == found.of_pairs else f" of {found.of_pairs:,}; the others lack labels"
    )
    raters = ", ".join(f"{rater} ({count:,})" for rater, count in found.raters.items())
    lines += [
        f"- pairs of query and document: {found.pairs:,}{partly}",
        f"- raters and what they scored: {_cell(raters)}",
        *(f"- agreement of {_cell(line)}" for line in _agreement(found)),
    ]
    if found.strange:
        lines.append(f"- labels of pictures that no model here chose, left out: {found.strange:,}")
    lines += ["", f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for name, of in _ROWS:
        cells = (_figure(of(column)) for column in found.columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *(_floor(column) for column in found.columns if column.floor)]
    lines += [
        "Coverage is of all pairs, every other figure of what is shown. In brackets: the middle "
        "95 % of 1,000 bootstrap resamples of queries. A picture's score is the median of its "
        "raters', of two the lower. The slide's row \"Image_score > 3\" holds what is not above 2, "
        "here ≤ 2."
    ]
    return "\n".join(lines) + "\n"


def write(
    folder: str | os.PathLike[str], found: ThumbnailTable, about: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write ``thumbnail.json`` and ``thumbnail.md``; return both paths."""
    folder = Path(folder)
    write_json(folder / JSON_NAME, to_json(found, about))
    with atomic_write(folder / MARKDOWN_NAME, "w") as file:
        file.write(to_markdown(found, about))
    return folder / JSON_NAME, folder / MARKDOWN_NAME


def _head(column: Column) -> str:
    if column.floor is None:
        return column.model
    value = column.floor.value
    return (
        f"{column.model} ≥ {value:.3f}"
        if math.isfinite(value)
        else f"{column.model}, no floor does"
    )


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "–"
    assert figure.low is not None and figure.high is not None
    if figure.count is None:
        return f"{figure.value:.3f} [{figure.low:.2f}, {figure.high:.2f}]"
    low, high = 100 * figure.low, 100 * figure.high
    return f"{figure.count:,} ({100 * figure.value:.1f}%) [{low:.0f}, {high:.0f}]"


def _floor(column: Column) -> str:
    floor = column.floor
    assert floor is not None
    name = _cell(column.model)
    if not math.isfinite(floor.value):
        return (
            f"{name}: no floor keeps the bound on {floor.labelled:,} labelled pictures; label "
            "more, allow more, or show none.\n"
        )
    share, limit = 100 * floor.bad_share, 100 * floor.limit
    written = math.floor(1e6 * floor.value) / 1e6  # rounded up, it would leave out the last one
    return (
        f"{name}: `--floor {written:.6f}` leaves {floor.shown:,} of {floor.labelled:,} "
        f"labelled pictures, {floor.bad:,} of them bad ({share:.1f} %; below {limit:.1f} % with "
        "95 % certainty, were it the only floor tried). The figures of its column are of pictures "
        "whose labels had no part in their floor.\n"
    )


def _agreement(found: ThumbnailTable) -> list[str]:
    lines = []
    for each in found.agreement:
        kappa = "not defined" if each.kappa is None else f"{each.kappa:.2f}"
        same = "" if each.same is None else f", {100 * each.same:.0f} % alike"
        lines.append(
            f"{each.first} and {each.second}: weighted kappa {kappa} over {each.common:,}{same}"
        )
    return lines


def _cell(value: Any) -> str:
    """On one line, its bars escaped: a name of the user's must not break the table."""
    return " ".join(str(value).split()).replace("|", "\\|")
