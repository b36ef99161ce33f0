"""The report's pictures as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kmm_jax.evaluation.confusion import confusion_figure
from kmm_jax.evaluation.figures import svg

Panels = Sequence[tuple[str, Sequence[tuple[str, str]]]]

_GRID = "#d9dee4"
_COLOURS = ("#c2410c", "#0f766e", "#4338ca", "#a16207")


def draw_curves(records: Sequence[Mapping[str, float]], panels: Panels) -> str:
    """Curves over training steps.

    Args:
        records: the lines of ``metrics.jsonl``; each has ``step``.
        panels: (title, [(metric, label), ...]) for each panel, side by side.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * len(panels), 3.0), layout="constrained")
    for axes, (title, curves) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True
    ):
        for colour, (metric, label) in zip(_COLOURS, curves, strict=False):
            points = [(r["step"], r[metric]) for r in records if metric in r]
            if points:
                axes.plot(*np.asarray(points).T, color=colour, label=label, linewidth=1.6)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("step")
        axes.grid(color=_GRID, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.has_data():
            axes.legend(frameon=False, fontsize=9)
    return svg(figure)


def draw_confusion(matrix_CC: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix of counts, rows the truth."""
    return svg(confusion_figure(matrix_CC, names))
