"""Results for people and programs: tables with their protocol, chance beside each score."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kmm_jax.files import atomic_write, write_json

JSON_NAME = "evaluation.json"
MARKDOWN_NAME = "evaluation.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One figure.

    Attributes:
        name: with slashes, such as ``query/top1``.
        value: a share in [0, 1] if ``share``, otherwise on the metric's own scale.
        chance: what the same protocol gives without looking; None where nothing such exists.
    """

    name: str
    value: float
    chance: float | None = None
    share: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The figures of one task over one set.

    Attributes:
        task: ``zero_shot``, ``retrieval``, ``knn`` and so on, as ``kmm evaluate --tasks`` takes
            them; two tables of a task differ by title.
        protocol: how the figures were measured, one sentence that stands alone.
        facts: counts behind the figures, such as ``gallery``.
    """

    task: str
    title: str
    protocol: str
    scores: tuple[Score, ...]
    facts: Mapping[str, int | float] = dataclasses.field(default_factory=dict)

    def metrics(self) -> Iterator[tuple[str, float]]:
        """(name, value) of every score, chance (``query/chance_top1``) and fact, for a log."""
        for score in self.scores:
            yield score.name, float(score.value)
            if score.chance is not None:
                group, slash, last = score.name.rpartition("/")
                yield f"{group}{slash}chance_{last}", float(score.chance)
        for name, value in self.facts.items():
            yield name, float(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """Everything one evaluation found; ``about`` says of which model on which data."""

    about: Mapping[str, Any]
    tables: tuple[Table, ...]


def to_json(results: Results) -> dict[str, Any]:
    """Plain JSON values: ``about`` and, under ``tables``, each table with its scores by name."""
    return {
        "about": dict(results.about),
        "tables": [
            {
                "task": table.task,
                "title": table.title,
                "protocol": table.protocol,
                **table.facts,
                "scores": {
                    score.name: {"value": score.value, "chance": score.chance}
                    for score in table.scores
                },
            }
            for table in results.tables
        ],
    }


def to_markdown(results: Results) -> str:
    """A Markdown page: what was evaluated, then a table for each task under its protocol."""
    lines = ["# Evaluation", ""]
    lines += [f"- {name}: {_cell(value)}" for name, value in results.about.items()]
    for table in results.tables:
        lines += ["", f"## {_cell(table.title)}", "", _cell(table.protocol), ""]
        lines += ["| measure | score | chance | over chance |", "|---|---:|---:|---:|"]
        lines += [_row(score) for score in table.scores]
    return "\n".join(lines) + "\n"


def write(results: Results, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write ``evaluation.json`` and ``evaluation.md`` into ``folder``; return both paths."""
    folder = Path(folder)
    write_json(folder / JSON_NAME, to_json(results))
    with atomic_write(folder / MARKDOWN_NAME, "w") as file:
        file.write(to_markdown(results))
    return folder / JSON_NAME, folder / MARKDOWN_NAME


def _row(score: Score) -> str:
    chance = "" if score.chance is None else _figure(score.chance, score)
    times = f"{score.value / score.chance:.1f}×" if score.chance else ""
    return f"| {_cell(score.name)} | {_figure(score.value, score)} | {chance} | {times} |"


def _figure(value: float, score: Score) -> str:
    if not score.share:
        return f"{value:z.3f}"
    # Chance in a gallery of thousands is below 0.1 % and must not read as nothing.
    return f"{100 * value:.1f} %" if value == 0 or value >= 0.01 else f"{100 * value:.2g} %"


def _cell(value: Any) -> str:
    """``value`` on one line, its bars escaped: a text of the user's must not break the table."""
    return " ".join(str(value).split()).replace("|", "\\|")
