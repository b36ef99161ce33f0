"""What a sweep found, as one page: the spread of similarities, the curves, the best threshold."""

from __future__ import annotations

import html
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.evaluation.figures import svg
from kmm_jax.files import atomic_write

_COLOURS = {"query": "#0f766e", "title": "#c2410c"}
_GRID = "#9aa4af"
_NAMES = {"query": "클릭 질의 · queries", "title": "문서 제목 · titles"}
_STYLE = """
:root{color-scheme:light dark;font-family:"Noto Sans KR","Apple SD Gothic Neo","Malgun Gothic",
NanumGothic,sans-serif;line-height:1.5}
body{margin:0 auto;max-width:60rem;padding:1.5rem}
svg{max-width:100%;height:auto;background:#fff;border-radius:8px}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;text-align:right;
border-bottom:1px solid #8884}td:first-child,th:first-child{text-align:left}
.best{font-weight:700}.scroll{overflow-x:auto}
"""


def write_page(path: Path, result: Mapping[str, Any]) -> None:
    """Write the page; it needs no other file and no network."""
    best, loosest = result["best"], result["loosest_as_good"]
    with atomic_write(path, "w") as file:
        file.write(
            '<!doctype html><html lang="ko"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>유사도 기준 · similarity threshold</title><style>{_STYLE}</style>"
            "<h1>유사도 기준 찾기 · Similarity threshold</h1>"
            f"<p>{html.escape(sentence(result))}</p>"
            f"<p>{html.escape(_about(result))}</p>"
            f"<h2>점수 분포 · Spread of similarities</h2>{_spread(result)}"
            f"<h2>제로샷 · Zero-shot by threshold</h2>{_curves(result)}"
            f'<div class="scroll">{_table(result, best, loosest)}</div></html>\n'
        )


def sentence(result: Mapping[str, Any]) -> str:
    """What was found, in words."""
    best, loosest = result["best"], result["loosest_as_good"]
    found = (
        f"Best: {best['field']} {_least(best['least'])}, zero-shot {best['top1']:.1%} on "
        f"{result['classes']}."
    )
    if loosest["least"] != best["least"]:
        found += (
            f" Within {result['margin']:.1%} of it and with more data left "
            f"({loosest['available']:,} rows): {_least(loosest['least'])}."
        )
    by_field = result["by_field"]
    if len(by_field) > 1:
        (first, high), (second, low) = sorted(by_field.items(), key=lambda item: -item[1])
        if high - low > result["margin"]:
            found += f" Trained on {first}, {high:.1%}; on {second}, {low:.1%}."
        else:
            found += f" {first} ({high:.1%}) and {second} ({low:.1%}) cannot be told apart."
    return found


def _about(result: Mapping[str, Any]) -> str:
    return (
        f"Each point: {result['config']} trained on {result['rows']:,} of {result['source_rows']:,}"
        f" rows, {result['seeds']} seed(s), tested on {result['test_rows']:,} rows."
    )


def _least(least: float | None) -> str:
    return "all texts" if least is None else f">= {least}"


def _spread(result: Mapping[str, Any]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    low, high = 1.0, -1.0
    for field, histogram in result["histograms"].items():
        counts = np.asarray(histogram["counts"], float)
        edges = np.linspace(-1, 1, histogram["bins"] + 1)
        filled = np.flatnonzero(counts)
        low, high = min(low, edges[filled[0]]), max(high, edges[filled[-1] + 1])
        axes.stairs(
            counts / counts.sum(), edges, label=field, color=_COLOURS[field], fill=True, alpha=0.35
        )
    for least in {c["least"] for c in result["conditions"]} - {None}:
        axes.axvline(least, color=_GRID, linewidth=0.8, linestyle="--")
    axes.set_xlim(low - 0.02, high + 0.02)
    axes.set_xlabel("cosine of picture and text; dashed: thresholds")
    axes.set_ylabel("share of texts")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)


def _curves(result: Mapping[str, Any]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    lines = sorted({c["least"] for c in result["conditions"]} - {None})
    step = (lines[-1] - lines[0]) / max(len(lines) - 1, 1) if len(lines) > 1 else 0.1
    without = (lines[0] if lines else 0.0) - step  # where "all texts" stands
    for field in result["histograms"]:
        points = [c for c in result["conditions"] if c["field"] == field and c["top1"]]
        x = [without if c["least"] is None else c["least"] for c in points]
        means = [100 * statistics.fmean(c["top1"]) for c in points]
        errors = [100 * statistics.stdev(c["top1"]) if len(c["top1"]) > 1 else 0 for c in points]
        axes.errorbar(x, means, errors, marker="o", capsize=3, label=field, color=_COLOURS[field])
    axes.set_xticks([without, *lines], ["all", *(f"{line:g}" for line in lines)])
    axes.set_xlabel("threshold of similarity")
    axes.set_ylabel("zero-shot top-1, %")
    axes.grid(color=_GRID, linewidth=0.4, alpha=0.5)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)


def _table(result: Mapping[str, Any], best: Mapping[str, Any], loosest: Mapping[str, Any]) -> str:
    rows = []
    for condition in result["conditions"]:
        top1 = condition["top1"]
        score = f"{statistics.fmean(top1):.1%}" if top1 else "too few rows"
        if len(top1) > 1:
            score += f" ± {statistics.stdev(top1):.1%}"
        is_best = (condition["field"], condition["least"]) == (best["field"], best["least"])
        rows.append(
            f"<tr{' class=best' if is_best else ''}><td>{_NAMES[condition['field']]}</td>"
            f"<td>{html.escape(_least(condition['least']))}</td>"
            f"<td>{condition['available']:,}</td><td>{score}</td></tr>"
        )
    return (
        "<table><tr><th>학습 글 · text</th><th>기준 · threshold</th>"
        "<th>남는 행 · rows left</th><th>제로샷 · zero-shot</th></tr>" + "".join(rows) + "</table>"
    )
