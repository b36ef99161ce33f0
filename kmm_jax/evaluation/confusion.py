"""Which class is taken for which: the matrix, and a picture of it with Korean names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kmm_jax.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NUMBERED = 30
_LEAST_SHOWN = 0.05


def confusion(truth_N: np.ndarray, answers_N: np.ndarray, classes: int) -> np.ndarray:
    """Counts (classes, classes), int64: row the true class, column the answered one."""
    cells = np.asarray(truth_N, np.int64) * classes + np.asarray(answers_N, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def draw_confusion(
    path: str | os.PathLike[str], matrix_CC: np.ndarray, names: Sequence[str]
) -> None:
    """Draw a confusion matrix as a PNG; see :func:`confusion_figure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = confusion_figure(matrix_CC, names)
    with atomic_write(path) as file:
        FigureCanvasAgg(figure).print_png(file)


def confusion_figure(matrix_CC: np.ndarray, names: Sequence[str]) -> Figure:
    """A confusion matrix as a picture; every row is shown as shares of its true class.

    Rows of classes that never occur stay empty. Up to 30 classes, shares from 5 % on are numbered.

    Raises:
        ValueError: not as many names as classes.
    """
    # Figure and its own canvas instead of pyplot: no global state, no window system, any thread.
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    from kmm_jax.data.fonts import korean_font_path

    if matrix_CC.shape != (len(names), len(names)):
        raise ValueError(f"{len(names)} names for a matrix of the shape {matrix_CC.shape}")
    shares_CC = matrix_CC / np.maximum(matrix_CC.sum(axis=1, keepdims=True), 1)
    few = len(names) <= _MOST_NUMBERED
    font = FontProperties(fname=str(korean_font_path()), size=9 if few else 7)
    side = min(2.4 + (0.32 if few else 0.16) * len(names), 40.0)
    figure = Figure(figsize=(side + 0.8, side), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(shares_CC, cmap="YlGnBu", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(range(len(names)), names, rotation=90, fontproperties=font)
    axes.set_yticks(range(len(names)), names, fontproperties=font)
    axes.set_xlabel("대답", fontproperties=font)
    axes.set_ylabel("정답", fontproperties=font)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if few:
        for row, column in zip(*np.nonzero(shares_CC >= _LEAST_SHOWN), strict=True):
            share = float(shares_CC[row, column])
            colour = "white" if share > 0.55 else "#28303a"
            axes.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color=colour,
            )
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, format=lambda share, _: f"{share:.0%}")
    bar.outline.set_visible(False)
    return figure
