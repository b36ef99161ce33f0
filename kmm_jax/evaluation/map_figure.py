"""An embedding map as pictures: panels side by side, with Korean names beside the English ones.

N rows of a group.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm_jax.evaluation.embedding_map import EmbeddingMap, Panel, to_json
from kmm_jax.files import atomic_write, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which differ in lightness as well; their yellow is lost on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_REST = "#b4bac2"
_MARKERS = ("o", "^", "D", "s", "v", "P", "X")
_KOREAN = {"image": "이미지", "text": "글", "image+text": "이미지+글"}
_INK, _FAINT, _FRAME = "#1c1c1e", "#6e6e73", "#d9dee4"
_IN_A_ROW = 4
_MOST_SHAPES = 6000  # more points than this are a picture inside the SVG


def write_map(found: EmbeddingMap, folder: str | os.PathLike[str]) -> tuple[Path, Path, Path]:
    """Write ``map.png``, ``map.svg`` and ``map.json`` into ``folder``; return their paths."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    png, svg, coordinates = (Path(folder) / f"map.{end}" for end in ("png", "svg", "json"))
    figure = draw_map(found)
    with atomic_write(png) as file:
        FigureCanvasAgg(figure).print_png(file)
    # A salt and no date: the same map is the same file.
    with atomic_write(svg, "w") as file, rc_context({"svg.hashsalt": "kmm_jax"}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    write_json(coordinates, to_json(found))
    return png, svg, coordinates


def draw_map(found: EmbeddingMap) -> Figure:
    """The panels side by side, four in a row, under one legend.

    Without labels a group has a colour and a marker of its own; with labels the colour is the class
    (the seven most frequent; the rest are grey) and the marker the group.
    """
    # Figure and its own canvas instead of pyplot: no global state, no window system, any thread.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(len(found.panels), _IN_A_ROW)
    rows = -(-len(found.panels) // columns)
    # One panel alone still has room for the legend.
    width = max(4.4 * columns, 6.0)
    figure = Figure(
        figsize=(width, 4.9 * rows + 0.9),
        dpi=150,
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08),
    )
    cells = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    groups = list(dict.fromkeys(name for panel in found.panels for name in panel.groups))
    classes = _classes(found.panels)
    for axes, panel, places in zip(cells, found.panels, found.places, strict=False):
        _draw_panel(axes, panel, places, groups, classes)
    for axes in cells[len(found.panels) :]:
        axes.set_axis_off()
    lines = [_group_handles(groups, bool(classes)), _class_handles(classes, found.panels)]
    handles, across = _in_lines(lines, max(int(width / 1.35), 1))
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=across,
        frameon=False,
        prop=_font(9.5),
        handletextpad=0.3,
        columnspacing=1.2,
    )
    figure.supxlabel(_explanation(found), fontproperties=_font(8), color=_FAINT, linespacing=1.4)
    return figure


def _draw_panel(
    axes: Any,
    panel: Panel,
    places: Mapping[str, np.ndarray],
    groups: Sequence[str],
    classes: Sequence[str],
) -> None:
    points = sum(len(place_N2) for place_N2 in places.values())
    size = float(np.clip(9000 / points, 4, 36))
    for name, place_N2 in places.items():
        number = groups.index(name)
        colour_N = np.asarray(
            [_colour(label, classes) for label in panel.labels]
            if panel.labels
            else [_COLOURS[number % len(_COLOURS)]] * len(place_N2)
        )
        # Points without a colour of their own lie below those of every group that have one.
        for zorder, drawn_N in ((1, colour_N == _REST), (2, colour_N != _REST)):
            axes.scatter(
                *place_N2[drawn_N].T,
                s=size,
                c=colour_N[drawn_N],
                marker=_MARKERS[number % len(_MARKERS)],
                alpha=0.6,
                linewidths=0,
                zorder=zorder,
                rasterized=points > _MOST_SHAPES,
            )
    axes.set_title(_plain(panel.title), loc="left", fontproperties=_font(12), color=_INK)
    names = [f"{name} {value:.2f}" for name, value in panel.measures.items()]
    lines = [" · ".join(names[start : start + 2]) for start in range(0, len(names), 2)]
    axes.set_xlabel("\n".join(lines), fontproperties=_font(9), color=_FAINT, linespacing=1.4)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(_FRAME)
    axes.set_box_aspect(1)
    axes.margins(0.04)


def _classes(panels: Sequence[Panel]) -> list[str]:
    """The classes that have a colour of their own: the most frequent ones, in all panels alike."""
    counts = Counter(label for panel in panels for label in panel.labels if label is not None)
    return [label for label, _ in counts.most_common(len(_COLOURS))]


def _colour(label: str | None, classes: Sequence[str]) -> str:
    return _COLOURS[classes.index(label)] if label in classes else _REST


def _group_handles(groups: Sequence[str], labelled: bool) -> list[Any]:
    return [
        _handle(
            f"{_KOREAN[name]} {name}" if name in _KOREAN else name,
            _FAINT if labelled else _COLOURS[number % len(_COLOURS)],
            _MARKERS[number % len(_MARKERS)],
        )
        for number, name in enumerate(groups)
    ]


def _class_handles(classes: Sequence[str], panels: Sequence[Panel]) -> list[Any]:
    if not classes:
        return []
    handles = [_handle(label, _colour(label, classes), "s") for label in classes]
    if any(label not in classes for panel in panels for label in panel.labels):
        handles.append(_handle("나머지 rest", _REST, "s"))
    return handles


def _in_lines(lines: Sequence[list[Any]], most: int) -> tuple[list[Any], int]:
    """Handles as matplotlib takes them, column by column, so that each line begins on its own.

    Returns:
        the handles, blanks among them, and the number of columns, at most ``most``.
    """
    rows = [line[start : start + most] for line in lines for start in range(0, len(line), most)]
    across = max(len(row) for row in rows)
    blank = _handle(" ", "none", "")
    full = [row + [blank] * (across - len(row)) for row in rows]
    return [row[column] for column in range(across) for row in full], across


def _handle(name: str, colour: str, marker: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], linestyle="", marker=marker, color=colour, markeredgewidth=0, label=_plain(name)
    )


def _explanation(found: EmbeddingMap) -> str:
    name = {"tsne": "t-SNE", "umap": "UMAP"}[found.method]
    settings = ", ".join(
        f"{key} {value:g}" for key, value in found.settings.items() if key != "package"
    )
    return (
        f"{name} ({settings}): 가까운 점은 가까운 벡터이고, 무리 사이의 거리와 크기는 뜻이 없다\n"
        "near points are near vectors; how far apart and how large clusters are means nothing"
    )


def _font(size: float) -> Any:
    from matplotlib.font_manager import FontProperties

    from kmm_jax.data.fonts import korean_font_path

    return FontProperties(fname=str(korean_font_path()), size=size)


def _plain(text: str) -> str:
    """Text whose dollar signs begin no formula."""
    return text.replace("$", r"\$")
