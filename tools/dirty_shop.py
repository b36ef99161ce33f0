"""The built-in shop as raw input for a corpus, with dirt whose every grain is known.

Pictures in Parquet tables, documents and clicks beside them; some pictures broken, blank, too
small, too long, copied or re-encoded, some texts with personal data, noise, other languages.
``truth`` says of each picture and how many texts what must become of them.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from kmm_jax.corpus.config import Clicks, CorpusConfig, Documents, Images
from kmm_jax.data.fonts import korean_font
from kmm_jax.data.shop import ShopConfig, render_item
from kmm_jax.files import atomic_directory, write_json
from tools.watermark import marks

# Of each hundred pictures, so many; the others are clean.
IMAGE_DIRT = {
    "small": 4,
    "aspect": 3,
    "white": 3,
    "decode_error": 5,
    "duplicate": 5,
    "near_duplicate": 5,
    "no_text": 4,
}
# And of those that the scores must find.
SCORED_DIRT = {"watermark": 5, "ocr": 4}
# Of each hundred texts, so many. What follows a digit was made to fit no real person.
_DIRTY_TEXTS = {
    "phone": ("{} 문의 010-{:04d}-{:04d}", 2),
    "email": ("{} shop{:04d}@example{:04d}.com", 2),
    "url": ("{} https://example.com/{:04d}/{:04d}", 2),
    "symbols": ("★☆◆{:04d}◆☆★!!{:04d}~~", 2),
    "language": ("{} 綺麗なワンピースです {:04d}{:04d}", 2),
    "noise_topic": ("로또 당첨번호 {:04d}회 {:04d}", 2),
    "empty": ("", 1),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One picture with its texts, and what must become of them."""

    key: str
    image: bytes | None
    titles: tuple[str, ...]
    queries: tuple[tuple[str, int], ...]
    image_reason: str | None
    text_reasons: tuple[str, ...]


def write(
    folder: Path,
    *,
    items: int,
    seed: int,
    image_size: int = 256,
    files: int = 4,
    scored: bool = False,
) -> CorpusConfig:
    """Write the raw shop into ``folder``, unless it is there; returns the corpus to build of it.

    Args:
        scored: with ``SCORED_DIRT`` too.
    """
    made_from = {"items": items, "seed": seed, "image_size": image_size, "files": files,
                 "scored": scored}  # fmt: skip
    truth = folder / "truth.json"
    if not (truth.exists() and json.loads(truth.read_text("utf-8"))["of"] == made_from):
        with atomic_directory(folder) as whole:
            _write(whole, made_from)
    return CorpusConfig(
        name="dirty-shop",
        images=(Images(url=str(folder / "images-*.parquet")),),
        documents=(Documents(url=str(folder / "documents-*.parquet")),),
        clicks=(Clicks(url=str(folder / "clicks-*.parquet"), count="clicks"),),
    )


def truth(folder: Path) -> dict[str, Any]:
    """What must become of each picture (``images``, by key) and how many texts (``texts``)."""
    found: dict[str, Any] = json.loads((folder / "truth.json").read_text("utf-8"))
    return found


def _write(folder: Path, of: dict[str, Any]) -> None:
    images: dict[str, str | None] = {}
    texts: dict[str, dict[str, int]] = {"documents": {}, "clicks": {}}
    rows = list(_rows(of["items"], of["seed"], of["image_size"], bool(of["scored"])))
    for number in range(of["files"]):
        own = rows[number :: of["files"]]
        pictures = [{"key": row.key, "image": row.image} for row in own]
        schema = pa.schema({"key": pa.string(), "image": pa.binary()})
        table = pa.Table.from_pylist(pictures, schema=schema)
        pq.write_table(table, folder / f"images-{number:03d}.parquet", row_group_size=64)
        documents = [{"key": row.key, "title": title} for row in own for title in row.titles]
        clicks = [
            {"key": row.key, "query": query, "clicks": count}
            for row in own
            for query, count in row.queries
        ]
        named = (("documents", "title", documents), ("clicks", "query", clicks))
        for kind, column, told in named:
            columns = {"key": pa.string(), column: pa.string()}
            if kind == "clicks":
                columns["clicks"] = pa.int64()
            table = pa.Table.from_pylist(told, schema=pa.schema(columns))
            pq.write_table(table, folder / f"{kind}-{number:03d}.parquet")
        for row in own:
            images[row.key] = row.image_reason
            for kind, count in (("documents", len(row.titles)), ("clicks", len(row.queries))):
                reasons = row.text_reasons if kind == "documents" else ("kept",) * count
                for reason in reasons[:count]:
                    texts[kind][reason] = texts[kind].get(reason, 0) + 1
    write_json(folder / "truth.json", {"of": of, "images": images, "texts": texts})


def _rows(items: int, seed: int, image_size: int, scored: bool) -> Iterator[Row]:
    config = ShopConfig(items=items, seed=seed, image_size=image_size, split="train")
    dirt = IMAGE_DIRT | SCORED_DIRT if scored else IMAGE_DIRT
    earlier: list[bytes] = []
    for index in range(items):
        rng = Random(f"dirt/{seed}/{index}")
        item = render_item(config, index)
        reason = _drawn(dirt, rng)
        if reason in ("duplicate", "near_duplicate") and not earlier:
            reason = None
        image = _image(item.jpeg, reason, earlier, rng)
        if reason is None:
            earlier.append(item.jpeg)
        record = item.record
        titles, reasons = [], []
        for title in (record["title"], record["product_name"]):
            kind = None if reason == "no_text" else _drawn_text(rng)
            titles.append(title if kind is None else _dirty(kind, title, rng))
            reasons.append(kind or "kept")
        queries = tuple(zip(record["query"], record["query_count"], strict=True))
        if reason == "no_text":
            titles, reasons, queries = [], [], ()
        yield Row(
            key=f"item-{index:06d}",
            image=image,
            titles=tuple(titles),
            queries=queries,
            image_reason=reason,
            text_reasons=tuple(reasons),
        )


def _drawn(of_a_hundred: dict[str, int], rng: Random) -> str | None:
    drawn = rng.random() * 100
    for name, share in of_a_hundred.items():
        drawn -= share
        if drawn < 0:
            return name
    return None


def _drawn_text(rng: Random) -> str | None:
    return _drawn({name: share for name, (_, share) in _DIRTY_TEXTS.items()}, rng)


def _dirty(kind: str, title: str, rng: Random) -> str:
    form = _DIRTY_TEXTS[kind][0]
    numbers = rng.randrange(2000, 9999), rng.randrange(1000, 9999)
    return form.format(title, *numbers) if form.startswith("{}") else form.format(*numbers)


def _image(jpeg: bytes, reason: str | None, earlier: list[bytes], rng: Random) -> bytes | None:
    picture = Image.open(io.BytesIO(jpeg))
    side = picture.width
    if reason == "small":
        return _jpeg(picture.resize((side, 150)))
    if reason == "aspect":
        return _jpeg(picture.resize((side * 3 + 40, side)))
    if reason == "white":
        blank = Image.new("RGB", picture.size, "white")
        blank.paste(picture.resize((side // 8, side // 8)), (side // 3, side // 3))
        return _jpeg(blank)
    if reason == "decode_error":
        broken = [
            jpeg[: len(jpeg) // 2],
            b"",
            None,
            b"<html>404</html>",
            b"\xff\xd8\xff" + jpeg[9:40],
        ]
        return rng.choice(broken)
    if reason == "watermark":
        return _jpeg(_marked(picture, rng))
    if reason == "ocr":
        return _jpeg(_written_over(picture, rng))
    if reason == "duplicate":
        return rng.choice(earlier)
    if reason == "near_duplicate":
        original = Image.open(io.BytesIO(rng.choice(earlier)))
        smaller = original.resize((round(side * 0.9),) * 2, Image.Resampling.LANCZOS)
        return _jpeg(smaller, quality=70)
    return jpeg


def _marked(picture: Image.Image, rng: Random) -> Image.Image:
    """With a mark that the shipped detector never saw."""
    drawn = np.random.default_rng(rng.randrange(2**32))
    kind = rng.choice(get_args(marks.Kind))
    pixels = np.asarray(picture.convert("RGB"))
    opacity = rng.uniform(0.35, 0.7)
    return Image.fromarray(marks.overlay(pixels, drawn, marks.HELD_OUT, kind, opacity)[0])


def _written_over(picture: Image.Image, rng: Random) -> Image.Image:
    """As a shop's banner is: full of lines."""
    image = picture.convert("RGB")
    draw = ImageDraw.Draw(image)
    size = max(9, image.height // 14)
    for number, top in enumerate(range(4, image.height - size, size + size // 3)):
        words = rng.choice(
            ("무료배송 오늘출발", "신상품 기획전 반값", "교환 환불 안내", "한정 수량 특가")
        )
        fill = ("white", "black", "yellow")[number % 3]
        draw.text((6, top), f"{words} {rng.randrange(100):02d}", fill, korean_font(size))
    return image


def _jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
