"""A suite at one look: every benchmark a row, every model a dot with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kmm_jax.evaluation.suite.benchmark import TASKS, Benchmark, Figure
from kmm_jax.evaluation.suite.reported import REPORTED
from kmm_jax.evaluation.suite.run import ModelResults
from kmm_jax.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

# Okabe and Ito's colours, which differ in lightness as well.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000", "#e69f00")
_MAIN = {"top1", "r1", "r10", "spearman", "cider_d"}
_WHAT = {"text_to_image": "text→image", "image_to_text": "image→text", "class": "", "": ""}
_METRIC = {"top1": "", "r1": "R@1", "r10": "R@10", "spearman": "", "cider_d": "CIDEr-D"}
_FAINT = "#6e6e73"


def draw(
    models: Sequence[ModelResults], suite: Sequence[Benchmark], *, svg: Path, png: Path
) -> None:
    """Write the picture twice, each whole or not at all."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    drawing = _drawing(models, suite)
    with atomic_write(png) as file:
        FigureCanvasAgg(drawing).print_png(file)
    # A salt and no date: the same results are the same file.
    with atomic_write(svg, "w") as file, rc_context({"svg.hashsalt": "kmm_jax"}):
        FigureCanvasSVG(drawing).print_svg(file, metadata={"Date": None})


def _drawing(models: Sequence[ModelResults], suite: Sequence[Benchmark]) -> Drawing:
    from matplotlib.figure import Figure as Drawing
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    titles = {benchmark.name: benchmark.title for benchmark in suite}
    found = [
        {figure.row: figure for one in model.measured.values() for figure in one.figures}
        for model in models
    ]
    panels = []
    for task, title in TASKS.items():
        shown = (
            row
            for figures in found
            for row, figure in figures.items()
            if figure.task == task and figure.metric in _MAIN
        )
        if rows := list(dict.fromkeys(shown)):
            panels.append((title, rows))
    heights = [len(rows) + 1.6 for _, rows in panels] or [1]
    drawing = Drawing(
        figsize=(9, 0.7 + 0.26 * sum(heights)),
        dpi=150,
        layout=ConstrainedLayoutEngine(h_pad=0.06),
    )
    if not panels:
        return drawing
    cells = drawing.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (title, rows) in zip(cells, panels, strict=True):
        for place, row in enumerate(rows):
            _draw_row(axes, place, [figures.get(row) for figures in found])
        axes.set_yticks(range(len(rows)), [_name(row, titles) for row in rows], fontsize=8)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))  # shares are seen from nothing
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        axes.grid(axis="y", color="#e5e7eb", linewidth=0.6)
        axes.tick_params(length=0, labelsize=8)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        share = any(figure.share for figures in found for r, figure in figures.items() if r in rows)
        axes.set_xlabel("percent" if share else "coefficient", fontsize=8, color=_FAINT)
    handles = [
        _handle(_COLOURS[number % len(_COLOURS)], "o", model.title)
        for number, model in enumerate(models)
    ]
    handles += [_handle(_FAINT, "|", "chance"), _handle(_FAINT, "x", "reported by others")]
    drawing.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    return drawing


def _draw_row(axes, place: int, figures: Sequence[Figure | None]) -> None:  # type: ignore[no-untyped-def]
    there = [figure for figure in figures if figure is not None]
    scale = 100 if there[0].share else 1
    if there[0].chance is not None:
        axes.plot([scale * there[0].chance], [place], "|", color=_FAINT, markersize=9)
    for one in REPORTED:
        if one.row == there[0].row:
            axes.plot([one.percent], [place], "x", color=_FAINT, markersize=5)
    count = len(figures)
    for number, figure in enumerate(figures):
        if figure is None:
            continue
        height = place + 0.5 * ((number + 0.5) / count - 0.5)
        colour = _COLOURS[number % len(_COLOURS)]
        low, high = scale * figure.low, scale * figure.high
        axes.plot([low, high], [height, height], "-", color=colour, linewidth=1.1)
        axes.plot([scale * figure.value], [height], "o", color=colour, markersize=3.6)


def _handle(colour: str, marker: str, label: str):  # type: ignore[no-untyped-def]
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6, label=label)


def _name(row: tuple[str, str, str, str, str], titles: dict[str, str]) -> str:
    benchmark, _, language, what, metric = row
    parts = (titles.get(benchmark, benchmark), language, _WHAT.get(what, what), _METRIC[metric])
    return ", ".join(part for part in parts if part)
