"""The report: one self-contained page with scores, curves, captions and searches."""

from __future__ import annotations

import dataclasses
import html
import os
from collections.abc import Sequence
from importlib import resources

from PIL import Image

from kmm_jax.evaluation.report import Score, Table
from kmm_jax.files import atomic_write
from kmm_jax.retrieval.sheet import STYLE, Search, data_url, search_section


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioned:
    """A picture with the caption a model gave and what its own row says."""

    image: Image.Image
    caption: str
    truth: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Everything the page shows, in its order.

    Attributes:
        facts: (name, value) lines under the title.
        figures: (caption, SVG text).
    """

    title: str
    facts: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    figures: Sequence[tuple[str, str]]
    captioned: Sequence[Captioned]
    searches: Sequence[Search]


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write the page; it needs no other file and no network."""
    facts = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in report.facts
    )
    tables = "".join(_table(table) for table in report.tables)
    parts = [
        f"<h1>{html.escape(report.title)}</h1><dl>{facts}</dl>",
        f'<h2>점수 · Scores</h2><div class="box">{tables}</div>',
    ]
    for caption, svg in report.figures:
        parts.append(f'<h2>{html.escape(caption)}</h2><div class="box figure">{svg}</div>')
    if report.captioned:
        cards = "".join(_card(each) for each in report.captioned)
        parts.append(
            "<h2>설명 · Captions of pictures never seen</h2>"
            f'<div class="box"><div class="cards">{cards}</div></div>'
        )
    searches = "".join(search_section(search, side=160) for search in report.searches)
    parts.append(f'<h2>검색 · Searches</h2><div class="box">{searches}</div>')
    style = resources.files("kmm_jax.quickstart").joinpath("report.css").read_text("utf-8")
    with atomic_write(path, "w") as file:
        file.write(
            '<!doctype html><html lang="ko"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(report.title)}</title><style>{style}{STYLE}</style>"
            f"<main>{''.join(parts)}</main></html>\n"
        )


def _table(table: Table) -> str:
    rows = "".join(_row(score) for score in table.scores)
    return (
        f"<table><caption><b>{html.escape(table.title)}</b>{html.escape(table.protocol)}</caption>"
        '<tr><th>measure</th><th class="number">score</th><th class="number">chance</th>'
        f'<th class="number">over chance</th></tr>{rows}</table>'
    )


def _row(score: Score) -> str:
    def figure(value: float) -> str:
        return f"{100 * value:.1f}%" if score.share else f"{value:.3f}"

    chance = "" if score.chance is None else figure(score.chance)
    times = f"{score.value / score.chance:.1f}×" if score.chance else ""
    return (
        f"<tr><td>{html.escape(score.name)}</td>"
        f'<td class="number"><b>{figure(score.value)}</b></td>'
        f'<td class="number">{chance}</td><td class="number">{times}</td></tr>'
    )


def _card(each: Captioned) -> str:
    return (
        f'<figure style="margin:0"><img src="{data_url(each.image, 96)}" alt="" loading="lazy">'
        f"<div>{html.escape(each.caption)}</div>"
        f'<div class="soft">정답: {html.escape(each.truth)}</div></figure>'
    )
