"""A suite's results as JSON, CSV and a Markdown page, any number of models side by side."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.evaluation.suite.benchmark import TASKS, Benchmark, Figure, Task
from kmm_jax.evaluation.suite.korean import ROBUSTNESS
from kmm_jax.evaluation.suite.reported import REPORTED, Reported
from kmm_jax.evaluation.suite.run import ModelResults
from kmm_jax.files import atomic_write, write_json

_LANGUAGES = {"ko": "Korean", "en": "English", "": ""}
_WHAT = {
    "text_to_image": "text to image",
    "image_to_text": "image to text",
    "class": "",
    "": "",
}
_METRICS = {
    "top1": "top 1",
    "top5": "top 5",
    "r1": "R@1",
    "r5": "R@5",
    "r10": "R@10",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "chrf": "chrF",
    "meteor": "METEOR",
    "spice": "SPICE",
    "spearman": "Spearman",
}


def write(
    folder: Path,
    models: Sequence[ModelResults],
    suite: Sequence[Benchmark],
    *,
    title: str = "The Korean suite",
    about: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write ``suite.json``, ``.csv``, ``.md``, ``.svg`` and ``.png``; returns their paths.

    Args:
        suite: everything that was asked for; what is not there is listed.
        about: of the whole, such as its command and date.
    """
    from kmm_jax.evaluation.suite import picture

    paths = {end: folder / f"suite.{end}" for end in ("json", "csv", "md", "svg", "png")}
    write_json(paths["json"], {"about": dict(about or {}), **to_json(models, suite)})
    with atomic_write(paths["csv"], "w") as file:
        file.write(to_csv(models))
    picture.draw(models, suite, svg=paths["svg"], png=paths["png"])
    with atomic_write(paths["md"], "w") as file:
        file.write(f"# {title}\n\n" + to_markdown(models, suite, picture=paths["svg"].name))
    return list(paths.values())


def to_json(models: Sequence[ModelResults], suite: Sequence[Benchmark]) -> dict[str, Any]:
    """Everything, as plain values."""
    return {
        "models": [
            {
                "title": model.title,
                **model.about,
                "measured": {
                    name: dataclasses.asdict(found) for name, found in model.measured.items()
                },
                "failed": dict(model.failed),
            }
            for model in models
        ],
        "reported": [dataclasses.asdict(one) for one in REPORTED if _asked(one, suite)],
        "absent": [
            {
                "benchmark": benchmark.name,
                "get": benchmark.get,
                "licence": benchmark.licence,
                "looked_for": list(benchmark.layouts),
            }
            for benchmark in absent(models, suite)
        ],
    }


def to_csv(models: Sequence[ModelResults]) -> str:
    """One line a figure, ours and reported ones, for a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = ("benchmark", "task", "language", "what", "metric", "value", "low", "high", "chance")
    writer.writerow(("model", *columns, "items", "source"))
    for model in models:
        for figure in _figures(model):
            values = dataclasses.asdict(figure)
            row = [values[column] for column in columns]
            writer.writerow((model.title, *row, figure.items, "measured"))
    for one in REPORTED:
        row = [*one.row[:2], one.language, one.what, one.metric, round(one.percent / 100, 4)]
        writer.writerow((one.model, *row, "", "", "", "", one.source))
    return buffer.getvalue()


def to_markdown(
    models: Sequence[ModelResults], suite: Sequence[Benchmark], *, picture: str | None = None
) -> str:
    """The page below its title."""
    parts = [
        "Every figure stands with its 95 % bootstrap interval over images, queries or pairs "
        "(1,000 resamples; exact where all or none was right); an interval says nothing of "
        "another training seed. Shares are in percent. Reported figures are those of the sources "
        "named below.",
        _models(models),
    ]
    if picture is not None:
        parts.append(f"![Every model on every benchmark]({picture})")
    titles = {benchmark.name: benchmark.title for benchmark in suite}
    for task, title in TASKS.items():
        table = _table(task, models, titles)
        if table:
            parts += [f"## {title}", table]
    robust = _robustness(models, titles)
    if robust:
        parts += ["## Robustness, as slide 3.1 has it (English, top 1)", robust]
    parts += ["## How it was measured", _protocols(models, suite)]
    missing = absent(models, suite)
    if missing:
        parts += ["## Not measured, for it is not there", _missing(missing)]
    failed = [(model.title, name, why) for model in models for name, why in model.failed.items()]
    if failed:
        rows = [(title, titles[name], why) for title, name, why in failed]
        parts += [
            "## Not measured, for it could not be read",
            _rows(("model", "benchmark", "why"), rows),
        ]
    sources = sorted({f"- {one.model}: {one.source}" for one in REPORTED if _asked(one, suite)})
    if sources:
        parts += ["## Sources of reported figures", "\n".join(sources)]
    return "\n\n".join(parts) + "\n"


def absent(models: Sequence[ModelResults], suite: Sequence[Benchmark]) -> list[Benchmark]:
    """The benchmarks that no model was measured on, and none failed on."""
    seen = {name for model in models for name in (*model.measured, *model.failed)}
    return [benchmark for benchmark in suite if benchmark.name not in seen]


def percent(value: float, *, share: bool = True) -> str:
    """A share in percent to one place, or a coefficient to three."""
    return f"{100 * value:z.1f}" if share else f"{value:z.3f}"


def reported_for(row: tuple[str, str, str, str, str]) -> list[Reported]:
    """What others report of the same figure."""
    return [one for one in REPORTED if one.row == row]


def _figures(model: ModelResults) -> list[Figure]:
    return [figure for found in model.measured.values() for figure in found.figures]


def _asked(one: Reported, suite: Sequence[Benchmark]) -> bool:
    return any(benchmark.name == one.benchmark for benchmark in suite)


def _models(models: Sequence[ModelResults]) -> str:
    rows = [
        (
            model.title,
            model.about["family"],
            f"{model.about['parameters']:,}",
            f"{model.about['image_size']} px",
            "yes" if model.about["style_tokens"] else "no",
            model.about["hash"],
        )
        for model in models
    ]
    return _rows(("model", "family", "parameters", "images", "style tokens", "hash"), rows)


def _table(task: Task, models: Sequence[ModelResults], titles: Mapping[str, str]) -> str:
    """A row for each figure that some model has, a column for each model."""
    by_model = [{figure.row: figure for figure in _figures(model)} for model in models]
    known = list(
        dict.fromkeys(row for found in by_model for row, one in found.items() if one.task == task)
    )
    if not known:
        return ""
    lines = []
    for row in known:
        benchmark, _, language, what, metric = row
        one = next(found[row] for found in by_model if row in found)
        others = "; ".join(f"{other.model} {other.percent:g}" for other in reported_for(row))
        lines.append(
            (
                titles.get(benchmark, benchmark),
                " ".join(part for part in (_LANGUAGES[language], _WHAT.get(what, what)) if part),
                _METRICS.get(metric, metric),
                f"{one.items:,}",
                "" if one.chance is None else percent(one.chance, share=one.share),
                *(_cell(found.get(row)) for found in by_model),
                others,
            )
        )
    columns = ["benchmark", "of", "measure", "items", "chance", *(model.title for model in models)]
    if any(line[-1] for line in lines):
        return _rows((*columns, "reported"), lines)
    return _rows(columns, [line[:-1] for line in lines])


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    value, low, high = (
        percent(one, share=figure.share) for one in (figure.value, figure.low, figure.high)
    )
    return f"{value} ({low} to {high})"


def _robustness(models: Sequence[ModelResults], titles: Mapping[str, str]) -> str:
    """The talk's table, with our models in more columns; only where one of its sets is there."""
    if not any(name in model.measured for model in models for name in ROBUSTNESS):
        return ""
    others = ("ResNet-101", "CLIP L/14 336")
    lines = []
    for name in ROBUSTNESS:
        row = (name, "zero_shot", "en", "class", "top1")
        reported = {one.model: one.percent for one in reported_for(row)}
        found = [
            next((figure for figure in _figures(model) if figure.row == row), None)
            for model in models
        ]
        lines.append(
            (
                titles.get(name, name),
                *(f"{reported[other]:g}" if other in reported else "" for other in others),
                *(_cell(figure) for figure in found),
            )
        )
    return _rows(("", *others, *(model.title for model in models)), lines)


def _protocols(models: Sequence[ModelResults], suite: Sequence[Benchmark]) -> str:
    """How each benchmark was measured, as the first model says for which it was."""
    lines = []
    for benchmark in suite:
        found = [one for model in models if (one := model.measured.get(benchmark.name))]
        if not found:
            continue
        said = f"; {benchmark.note}" if benchmark.note else ""
        lines.append(f"**{benchmark.title}** ({benchmark.licence}; {benchmark.get}{said}).")
        sentences = {task: one for each in reversed(found) for task, one in each.protocols.items()}
        titles = {str(task): title for task, title in TASKS.items()}
        lines += [f"- {titles[task]}: {sentence}." for task, sentence in sentences.items()]
        skipped = {what: why for each in found for what, why in each.skipped.items()}
        lines += [
            f"- {titles.get(what, what)}: not measured, {why}."
            for what, why in skipped.items()
            if what not in sentences
        ]
        lines.append("")
    return "\n".join(lines).strip()


def _missing(missing: Sequence[Benchmark]) -> str:
    rows = [
        (
            benchmark.title,
            benchmark.get,
            benchmark.licence,
            "; or ".join(benchmark.layouts),
            "; ".join(_short(one) for one in REPORTED if one.benchmark == benchmark.name),
        )
        for benchmark in missing
    ]
    return _rows(("benchmark", "from", "licence", "looked for", "reported"), rows)


def _short(one: Reported) -> str:
    of = " ".join(part for part in (one.language, _WHAT.get(one.what, one.what)) if part)
    return f"{one.model} {of} {_METRICS.get(one.metric, one.metric)} {one.percent:g}"


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in cells) + " |"

    return "\n".join([line(columns), "|" + "---|" * len(columns), *map(line, rows)])
