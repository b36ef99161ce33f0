"""Pictures, pairs and texts as HTML. Everything that came from outside is escaped and short."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from kmm_jax.corpus import beside, loose
from kmm_jax.corpus.report import words
from kmm_jax.corpus.report.charts import number
from kmm_jax.corpus.report.distribution import Line
from kmm_jax.corpus.report.layout import Layout
from kmm_jax.corpus.report.samples import Pair, Row
from kmm_jax.corpus.report.thumbnails import Place, place_of
from kmm_jax.corpus.text import PERSONAL, TextRules
from kmm_jax.corpus.text.excerpt import Piece, excerpt, plain

_QUERIES = 4
_COARSE = ("profanity", "adult")
_BESIDE = ("product_name", "caption")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")


class Gallery:
    """Makes the parts of one page.

    Args:
        lines: of the scores, by column.
        thumbnails: a data URL for each picture that there is.
    """

    def __init__(
        self,
        layout: Layout,
        rules: TextRules,
        lines: Mapping[str, Sequence[Line]],
        thumbnails: Mapping[Place, str],
    ) -> None:
        self._layout, self._rules, self._lines = layout, rules, lines
        self._thumbnails = thumbnails

    def pictures(self, rows: Iterable[Row], reason: str) -> str:
        """Cards with the picture, its texts and its scores."""
        hidden = ' class="veiled"' if reason == "unsafe" else ""
        cards = "".join(
            f"<figure>{self._tile(row)}<figcaption>{self._texts(row)}{self._facts(row)}"
            "</figcaption></figure>"
            for row in rows
        )
        return f'<div class="cards"><div{hidden}>{cards}</div></div>'

    def broken(self, rows: Iterable[Row]) -> str:
        """What the decoder said of files that are no pictures."""
        items = "".join(
            f"<li><span>{html.escape(plain(row.get('note') or 'cannot be decoded'))}</span>"
            f'<span class="soft">{self._where(row)}</span></li>'
            for row in rows
        )
        return f'<ul class="rows">{items}</ul>'

    def pairs(self, pairs: Iterable[Pair], told: Callable[[Pair], str]) -> str:
        """Two pictures side by side, the one that stays first."""
        cards = "".join(
            '<div class="pair">'
            f"<figure>{self._tile(pair.better)}<figcaption><b>stays 남김</b>"
            f"{self._facts(pair.better)}</figcaption></figure>"
            f'<figure>{self._tile(pair.worse)}<figcaption><b class="out">left out 뺌</b>'
            f"{self._facts(pair.worse)}</figcaption></figure>"
            f'<p class="soft">{html.escape(told(pair))}</p></div>'
            for pair in pairs
        )
        return f'<div class="pairs">{cards}</div>'

    def _tile(self, row: Row) -> str:
        url = self._thumbnails.get(place_of(row))
        inner = f'<img src="{url}" alt="" loading="lazy">' if url else '<span class="soft">–</span>'
        return f'<div class="tile">{inner}</div>'

    def _texts(self, row: Row) -> str:
        found = [("title", text) for text in (row.get("titles") or ())[:1]]
        # What came beside a picture of the first stage was not judged yet; of others it was.
        told = beside.fields(row["beside"]) if row.get("beside") else {}
        for field in ("title", *_BESIDE):
            if (value := told.get(field)) and not any(name == field for name, _ in found):
                found.append((field, str(value[0] if isinstance(value, list) else value)))
        lines = [f'<p class="{name}">{self._text(text)}</p>' for name, text in found]
        queries = list(zip(row.get("query") or (), row.get("query_count") or (), strict=False))
        if queries:
            more = f" +{len(queries) - _QUERIES}" if len(queries) > _QUERIES else ""
            listed = " ".join(
                f"<span>{self._text(text)} <small>{count:,}</small></span>"
                for text, count in queries[:_QUERIES]
            )
            lines.append(f'<p class="queries">{listed}{more}</p>')
        return "".join(lines)

    def _text(self, text: str) -> str:
        return pieces(excerpt(text, self._rules))

    def _facts(self, row: Row) -> str:
        reason, facts = row.get("reason"), []
        if row["width"]:
            size = f"{row['width']:,} × {row['height']:,}"
            facts.append((size, reason in ("small", "aspect")))
        if row.get("white", -1) >= 0:
            facts.append((f"white {100 * row['white']:.0f}%", reason == "white"))
        for column, drawn in self._lines.items():
            value = row.get(column)
            if isinstance(value, list):
                value = value[0] if value else None
            if value is not None:
                is_out = any(line.beyond(np.array(value)) for line in drawn)
                facts.append((f"{words.of_measure(column)[0]} {number(value)}", is_out))
        told = " ".join(
            f"<span{' class=out' if is_out else ''}>{html.escape(fact)}</span>"
            for fact, is_out in facts
        )
        return (
            f'<p class="soft facts">{told}</p>'
            f'<p class="soft where">{self._where(row)}<code>{html.escape(row["image_hash"])}</code>'
            "</p>"
        )

    def _where(self, row: Row) -> str:
        file = self._layout.pictures[row["file"]].path
        if loose.is_listing(file):
            return html.escape(plain(row["key"])) + " "
        return f"{html.escape(plain(PurePosixPath(file).name))} #{row['row']:,} "


def texts(excerpts: Iterable[Sequence[Piece]]) -> str:
    """Texts with what was found in them marked."""
    items = "".join(
        f"<li>{pieces(of_one) or '<span class=soft>(nothing 빈 글)</span>'}</li>"
        for of_one in excerpts
    )
    return f'<ul class="texts">{items}</ul>'


def file_name(file: str) -> str:
    """A path, pattern or URL with personal data masked, each part of it on its own."""
    parts = file.split("/")
    # A store's own name looks like a web address in a text, which would be masked.
    is_url = len(parts) > 3 and parts[0].endswith(":") and not parts[1]
    return "/".join(
        part if is_url and place == 2 and _HOST.fullmatch(part) else plain(part)
        for place, part in enumerate(parts)
    )


def pieces(of_one: Iterable[Piece]) -> str:
    """A text; in the place of personal data stands its kind, of coarse words the first letter."""
    inner = "".join(map(_piece, of_one))
    # Letters written from right to left stay inside, whatever they are.
    return f"<bdi>{inner}</bdi>" if inner else ""


def _piece(piece: Piece) -> str:
    if piece.reason is None:
        return html.escape(piece.text)
    told: dict[str, Any] = {"reason": html.escape(piece.reason)}
    told["korean"] = words.REASONS.get(piece.reason, piece.reason)
    if piece.reason in PERSONAL:
        return '<mark class="personal" title="{reason}">{korean}</mark>'.format(**told)
    shown = _covered(piece.text) if piece.reason in _COARSE else piece.text
    return '<mark title="{reason}">{shown}</mark>'.format(**told, shown=html.escape(shown))


def _covered(text: str) -> str:
    """The first letter, and an asterisk for each one that follows."""
    head, rest = text[:1], text[1:]
    return head + "".join(letter if letter.isspace() else "*" for letter in rest)
