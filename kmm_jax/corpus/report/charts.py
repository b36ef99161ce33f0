"""Bars and histograms, as HTML and SVG that take the page's colours."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from kmm_jax.corpus.report.distribution import Distribution, Line
from kmm_jax.corpus.report.measured import Measure
from kmm_jax.corpus.report.words import of_measure

_BINS = 40
_WIDE, _HIGH = 360, 96
_TAIL = 0.002  # of the numbers at each end, which would stretch the axis, stand in the last bars
_LOG_FROM = 30  # times the smallest: then the axis is logarithmic
_LEAST = 1.5  # what is there can be seen


def number(value: float) -> str:
    """A number for people: whole ones with separators, others to three digits."""
    if not math.isfinite(value):
        return "–"
    if value == round(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def share(count: int, of: int) -> str:
    """A percentage; what is there never shows as nothing, what is not all never as all."""
    if not of:
        return "–"
    percent = 100 * count / of
    if 99.95 <= percent < 100:
        return ">99.9%"
    return "<0.1%" if 0 < percent < 0.1 else f"{percent:.1f}%"


def stacked(parts: Sequence[tuple[str, int]], of: int) -> str:
    """One bar of parts, each with its class."""
    inner = "".join(
        f'<i class="{kind}" style="width:{100 * count / of:.3f}%"></i>'
        for kind, count in parts
        if of and count
    )
    return f'<div class="bar" aria-hidden="true">{inner}</div>'


def measure(found: Measure) -> str:
    """A histogram with its thresholds, the share on each side, and percentiles."""
    english, korean, unit = of_measure(found.name)
    distribution = found.distribution
    title = f"<b>{html.escape(english)}</b>" + (f" {html.escape(korean)}" if korean else "")
    title = f"<div>{title}</div><span>n {distribution.count:,}</span>"
    if not distribution.count:
        return f'<figure class="chart"><figcaption>{title}</figcaption><p>no values</p></figure>'
    unit = f" {unit}" if unit else ""
    edges, is_log = _edges(distribution)
    ends = [number(_shown(edge, distribution)) for edge in (edges[0], edges[-1])]
    percentiles = " · ".join(
        f"p{percent} {number(distribution.quantile(percent / 100))}" for percent in (5, 50, 95)
    )
    lines = "".join(
        f'<p class="line"><b class="out">{share(beyond, distribution.count)}</b> '
        f"{line.rejects} {number(line.value)}{unit} · "
        f"<b>{share(distribution.count - beyond, distribution.count)}</b> pass</p>"
        for line, beyond in zip(distribution.lines, distribution.beyond, strict=True)
    )
    return (
        f'<figure class="chart"><figcaption>{title}</figcaption>'
        f"{_svg(distribution, edges, is_log, english)}"
        f'<div class="axis"><span>{ends[0]}</span><span>{"log scale" if is_log else ""}</span>'
        f"<span>{ends[1]}{unit}</span></div>"
        f'{lines}<p class="soft">{percentiles}</p></figure>'
    )


def _edges(distribution: Distribution) -> tuple[np.ndarray, bool]:
    """The edges of the bars, a threshold on one of them; whether they are logarithmic."""
    cuts = [_cut(line, distribution) for line in distribution.lines]
    low = min([distribution.quantile(_TAIL), *cuts])
    high = max([distribution.quantile(1 - _TAIL), *cuts])
    whole = distribution.is_whole
    skewed = distribution.quantile(0.5) < low + (high - low) / 10
    if low > 0 and high > _LOG_FROM * low and skewed:
        ends = math.log(low) - 1e-9, math.log(high) + 1e-9
        step = (ends[1] - ends[0]) / _BINS
        edges = np.exp(_grid(*ends, step, [math.log(cut) for cut in cuts]))
        # A bar of no whole number would be a gap.
        return (np.unique(np.round(edges + 0.5)) - 0.5 if whole else edges), True
    if whole:
        low, high = math.floor(low) - 0.5 * (low == round(low)), math.ceil(high) + 0.5
        step = float(max(1, math.ceil((high - low) / _BINS)))
    else:
        step = (high - low) / _BINS or max(abs(high), 1.0) / _BINS
    return _grid(low, high, step, cuts), False


def _grid(low: float, high: float, step: float, cuts: Sequence[float]) -> np.ndarray:
    start = low
    if cuts:
        start = cuts[0] - math.ceil((cuts[0] - low) / step - 1e-6) * step
        start = low if math.isclose(start, low, abs_tol=1e-6 * step) else start
    count = max(1, math.ceil((high - start) / step - 1e-6))
    return start + step * np.arange(count + 1)


def _cut(line: Line, distribution: Distribution) -> float:
    """Where the line is drawn: between whole numbers, not through one of them."""
    if not (distribution.is_whole and line.value == round(line.value)):
        return line.value
    return line.value + (0.5 if line.side == "most" else -0.5)


def _shown(edge: float, distribution: Distribution) -> float:
    """An end of the axis as a number that occurs, or a threshold beyond all of them."""
    values = [distribution.smallest, distribution.largest]
    values += [line.value for line in distribution.lines]
    if distribution.is_whole:
        edge = float(round(edge))
    return min(max(edge, min(values)), max(values))


def _svg(distribution: Distribution, edges: np.ndarray, is_log: bool, label: str) -> str:
    counts = distribution.histogram(edges)
    along = np.log(edges) if is_log else edges
    centres = (edges[:-1] + edges[1:]) / 2
    at = _WIDE * (along - along[0]) / (along[-1] - along[0])
    out = np.zeros(centres.size, bool)
    for line in distribution.lines:
        cut = _cut(line, distribution)
        out |= centres > cut if line.side != "least" else centres < cut
    heights = np.where(counts > 0, np.maximum(_HIGH * counts / counts.max(), _LEAST), 0)
    bars = "".join(
        f'<rect class="{"out" if is_out else "in"}" x="{x:.1f}" y="{_HIGH - height:.1f}" '
        f'width="{max(right - x - 0.8, 0.8):.1f}" height="{height:.1f}"/>'
        for x, right, height, is_out in zip(at[:-1], at[1:], heights, out, strict=True)
        if height
    )
    cuts = [_cut(line, distribution) for line in distribution.lines]
    places = [
        _WIDE * ((math.log(cut) if is_log else cut) - along[0]) / (along[-1] - along[0])
        for cut in cuts
    ]
    drawn = "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="-6" y2="{_HIGH}" class="cut"/>' for x in places
    )
    return (
        f'<svg viewBox="-2 -8 {_WIDE + 4} {_HIGH + 9}" role="img" '
        f'aria-label="histogram: {html.escape(label)}">{bars}'
        f'<line x1="0" x2="{_WIDE}" y1="{_HIGH}" y2="{_HIGH}" class="base"/>{drawn}</svg>'
    )
