"""Contact sheets: what a search found, as a PNG or as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps

from kmm_jax.data.fonts import korean_font, wrap
from kmm_jax.errors import UserError
from kmm_jax.files import atomic_write

_PAPER, _TILE, _INK, _FAINT, _ACCENT = "#ffffff", "#f2f2f5", "#1c1c1e", "#76767c", "#0a66d6"
_MARGIN, _GAP, _LINES = 28, 20, 2
_JPEG_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One result: its picture (None where it is lost), a caption and the score."""

    image: Image.Image | None
    caption: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search for the page: its title, its hits, the query's picture and a note, if any."""

    title: str
    hits: Sequence[Hit]
    query_image: Image.Image | None = None
    note: str = ""


def write_sheet_png(
    path: str | os.PathLike[str],
    query_title: str,
    hits: Sequence[Hit],
    *,
    query_image: Image.Image | None = None,
    columns: int = 5,
    side: int = 200,
) -> None:
    """Draw a search as a PNG: the query above, the hits in a grid, the best first.

    Args:
        columns: hits in a line, at most.
        side: of a picture, pixels.

    Raises:
        UserError: no hits.
    """
    if not hits:
        raise UserError(f"nothing to draw: the search for {query_title!r} has no hits")
    title_font, text_font, small_font = korean_font(26), korean_font(15), korean_font(13)
    columns = min(columns, len(hits))
    rows = -(-len(hits) // columns)
    cell_height = side + 10 + 18 + _LINES * 21
    query_side = side // 2 if query_image is not None else 0
    # A narrow sheet still has room for a title.
    width = max(2 * _MARGIN + columns * side + (columns - 1) * _GAP, 560)
    text_left = _MARGIN + (query_side + _GAP if query_side else 0)
    title_lines = wrap(query_title, title_font, width - text_left - _MARGIN, 2)
    header = max(query_side, 36 * len(title_lines))
    top = _MARGIN + header + _GAP + 4
    sheet = Image.new("RGB", (width, top + rows * (cell_height + _GAP) + _MARGIN - _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if query_image is not None:
        sheet.paste(_tile(query_image, query_side), (_MARGIN, _MARGIN))
    title_top = _MARGIN + (header - 36 * len(title_lines)) // 2
    for number, line in enumerate(title_lines):
        draw.text((text_left, title_top + 36 * number), line, font=title_font, fill=_INK)
    for number, hit in enumerate(hits):
        left = _MARGIN + number % columns * (side + _GAP)
        upper = top + number // columns * (cell_height + _GAP)
        sheet.paste(_tile(hit.image, side), (left, upper))
        below = upper + side + 10
        draw.text((left, below), f"{number + 1}", font=small_font, fill=_FAINT)
        score = f"{hit.score:.3f}"
        right = left + side - small_font.getlength(score)
        draw.text((right, below), score, font=small_font, fill=_ACCENT)
        for line_number, line in enumerate(wrap(hit.caption, text_font, side, _LINES)):
            draw.text((left, below + 19 + 21 * line_number), line, font=text_font, fill=_INK)
    with atomic_write(path) as file:
        sheet.save(file, "PNG")


def write_sheet_html(
    path: str | os.PathLike[str],
    searches: Sequence[Search],
    *,
    title: str = "검색 결과",
    side: int = 240,
) -> None:
    """Write searches as one HTML page with its pictures inside, in light or dark as the reader has.

    Args:
        title: of the page.
        side: longest side of an embedded picture, pixels.
    """
    sections = "\n".join(search_section(search, side=side) for search in searches)
    page = _PAGE.format(title=html.escape(title), style=STYLE, sections=sections)
    with atomic_write(path, "w") as file:
        file.write(page)


def search_section(search: Search, *, side: int = 240) -> str:
    """One search as an HTML section, for a page that has :data:`STYLE`."""
    query = (
        f'<img class="query" src="{data_url(search.query_image, side)}" alt="질의 이미지">'
        if search.query_image is not None
        else ""
    )
    note = f'<p class="note">{html.escape(search.note)}</p>' if search.note else ""
    cards = "\n".join(_card(number, hit, side) for number, hit in enumerate(search.hits, start=1))
    return (
        f'<section class="search">\n<header>{query}<div><h2>{html.escape(search.title)}</h2>{note}'
        f'</div></header>\n<ol class="hits">\n{cards}\n</ol>\n</section>'
    )


def _card(number: int, hit: Hit, side: int) -> str:
    words = html.escape(hit.caption)
    picture = (
        f'<img src="{data_url(hit.image, side)}" alt="{words}" loading="lazy">'
        if hit.image is not None
        else '<span class="lost">이미지 없음</span>'
    )
    return (
        f'<li><figure><div class="tile">{picture}</div><figcaption><span class="meta"><span>'
        f'{number}</span><span class="score">{hit.score:.3f}</span></span>'
        f'<span class="caption">{words}</span></figcaption></figure></li>'
    )


def data_url(image: Image.Image, side: int) -> str:
    """A picture as a JPEG inside a page, to be shown at most ``side`` pixels large."""
    # Twice the size shown, for dense screens.
    small = image.convert("RGB")
    small.thumbnail((2 * side, 2 * side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _tile(image: Image.Image | None, side: int) -> Image.Image:
    """The whole picture in a square of ``side`` pixels; a quiet square where it is lost."""
    tile = Image.new("RGB", (side, side), _TILE)
    if image is None:
        font = korean_font(13)
        words = "이미지 없음"
        place = ((side - font.getlength(words)) / 2, side / 2 - 8)
        ImageDraw.Draw(tile).text(place, words, font=font, fill=_FAINT)
        return tile
    fitted = ImageOps.contain(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
    tile.paste(fitted, ((side - fitted.width) // 2, (side - fitted.height) // 2))
    return tile


STYLE = """
.search { --paper: #fff; --tile: #f2f2f5; --ink: #1c1c1e; --faint: #6e6e73; --accent: #0a66d6;
  color: var(--ink); margin: 0 0 3rem; }
@media (prefers-color-scheme: dark) {
  .search { --paper: #1c1c1e; --tile: #2c2c2e; --ink: #f2f2f5; --faint: #a1a1a6;
    --accent: #6cb2ff; } }
.search header { display: flex; align-items: center; gap: 1rem; margin: 0 0 1rem; }
.search h2 { font-size: 1.35rem; font-weight: 650; margin: 0; letter-spacing: -.01em;
  word-break: keep-all; overflow-wrap: anywhere; }
.search .note { margin: .2rem 0 0; color: var(--faint); font-size: .9rem; }
.search .query { width: 6rem; height: 6rem; object-fit: contain; border-radius: 12px;
  background: var(--tile); flex: none; }
.search .hits { list-style: none; margin: 0; padding: 0; display: grid; gap: 1.1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(10rem, 42vw), 1fr)); }
.search figure { margin: 0; }
.search .tile { aspect-ratio: 1; border-radius: 14px; overflow: hidden; background: var(--tile);
  display: grid; place-items: center; }
.search .tile img { width: 100%; height: 100%; object-fit: contain; display: block; }
.search .lost { color: var(--faint); font-size: .85rem; }
.search .meta { display: flex; justify-content: space-between; margin: .5rem .1rem .1rem;
  font-size: .8rem; color: var(--faint); font-variant-numeric: tabular-nums; }
.search .score { color: var(--accent); }
.search .caption { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
  overflow: hidden; margin: 0 .1rem; font-size: .93rem; line-height: 1.4; word-break: keep-all;
  overflow-wrap: anywhere; }
"""
"""What the section of a search needs; it touches nothing outside ``.search``."""

_PAGE = """<!doctype html>
<html lang="ko">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; background: #fff; color: #1c1c1e; font-family: system-ui, -apple-system,
  "Apple SD Gothic Neo", "Pretendard", "Noto Sans KR", "Noto Sans CJK KR", "Malgun Gothic",
  "NanumGothic", sans-serif; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #1c1c1e; color: #f2f2f5; }} }}
main {{ max-width: 75rem; margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 3rem); }}
h1 {{ font-size: 1.8rem; letter-spacing: -.02em; margin: 0 0 2rem; }}
{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{sections}
</main>
</body>
</html>
"""
