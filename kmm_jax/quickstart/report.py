"""The report: one self-contained page with scores, curves, captions and searches."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import os
from collections.abc import Sequence
from importlib import resources

from PIL import Image

from kmm_jax.files import atomic_write


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One row of the table.

    Attributes:
        chance: what answering at random gives; None where there is no such thing.
        protocol: how the score was measured, in a few words.
    """

    name: str
    value: float
    chance: float | None
    protocol: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioned:
    """A picture with the caption a model gave and what its own row says."""

    image: Image.Image
    caption: str
    truth: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A search: what was asked, by text, by image or by both, and what came, best first."""

    text: str
    image: Image.Image | None
    hits: Sequence[tuple[Image.Image, str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Everything the page shows, in its order.

    Attributes:
        facts: (name, value) lines under the title.
        figures: (caption, SVG text).
    """

    title: str
    facts: Sequence[tuple[str, str]]
    scores: Sequence[Score]
    figures: Sequence[tuple[str, str]]
    captioned: Sequence[Captioned]
    found: Sequence[Found]


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write the page; it needs no other file and no network."""
    parts = [
        f"<h1>{html.escape(report.title)}</h1>",
        "<dl>"
        + "".join(
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
            for name, value in report.facts
        )
        + "</dl>",
        f"<h2>점수 · Scores</h2><section>{_scores(report.scores)}</section>",
    ]
    for caption, svg in report.figures:
        parts.append(f"<h2>{html.escape(caption)}</h2><section>{svg}</section>")
    if report.captioned:
        cards = "".join(
            _card(c.image, html.escape(c.caption), f"정답: {html.escape(c.truth)}")
            for c in report.captioned
        )
        parts.append(
            f'<h2>설명 · Captions of pictures never seen</h2><section><div class="grid">{cards}'
            "</div></section>"
        )
    searches = "".join(_search(found) for found in report.found)
    parts.append(f"<h2>검색 · Searches</h2><section>{searches}</section>")
    with atomic_write(path, "w") as file:
        file.write(
            '<!doctype html><html lang="ko"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(report.title)}</title><style>{_style()}</style>"
            f"<main>{''.join(parts)}</main></html>\n"
        )


def _style() -> str:
    return resources.files("kmm_jax.quickstart").joinpath("report.css").read_text("utf-8")


def _scores(scores: Sequence[Score]) -> str:
    def times(score: Score) -> str:
        return f"{score.value / score.chance:.1f}×" if score.chance else ""

    rows = "".join(
        f"<tr><td>{html.escape(s.name)}</td>"
        f'<td class="number"><b>{100 * s.value:.1f}%</b></td>'
        f'<td class="number">{"" if s.chance is None else f"{100 * s.chance:.1f}%"}</td>'
        f'<td class="number">{times(s)}</td>'
        f'<td class="soft">{html.escape(s.protocol)}</td></tr>'
        for s in scores
    )
    return (
        '<table><tr><th>measure</th><th class="number">score</th><th class="number">chance</th>'
        f'<th class="number">over chance</th><th>how</th></tr>{rows}</table>'
    )


def _search(found: Found) -> str:
    picture = f'<img src="{_data_url(found.image)}" alt="">' if found.image else ""
    cards = "".join(
        _card(image, html.escape(text), f"{score:.3f}") for image, text, score in found.hits
    )
    return (
        f'<div class="search"><p class="query">{picture}<span>{html.escape(found.text)}</span></p>'
        f'<div class="grid">{cards}</div></div>'
    )


def _card(image: Image.Image, line: str, note: str) -> str:
    return (
        f'<div class="card"><img src="{_data_url(image)}" alt="" loading="lazy"><div>{line}</div>'
        f'<div class="soft">{note}</div></div>'
    )


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    thumbnail = image.convert("RGB")
    thumbnail.thumbnail((192, 192))
    thumbnail.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
