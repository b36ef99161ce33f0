"""The tables and the picture of `tools.search`, of made-up values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tools.search import compositions
from tools.search_report import WAYS, body
from tools.search_sheet import Example, Row, write_examples


def values() -> dict[str, Any]:
    kinds = ("text", "image", "both", "all")
    figure = [0.5, 0.4, 0.6]
    relevance = [
        {"way": way, "kind": kind, "queries": 9, "ndcg@10": figure, "mrr": figure}
        for way in WAYS
        for kind in kinds
    ]
    composed = [{"way": "the image alone", "queries": 9, "ndcg@10": figure, "mrr": figure}]
    index = {"index": "by size", "engine": "scann 1", "layout": "hashed", "recall@10": 0.987}
    world = {
        "corpus": {"documents_made": 900, "queries": {"text": 9, "image": 9, "both": 9}},
        "images": 1800,
        "relevance": relevance,
        "differences": [
            {"kind": "all", "way": "rrf", "other": "image", "value": 0.1, "low": -0.1, "high": 0.2}
        ],
        "learned": {"text": {"words": 0.5, "text": 0.2, "image": 0.3}, "image": {"image": 1.0}},
        "composed": {"both": composed, "less": composed},
        "latency": {"text": {"vector_p50": 2.0, "search_p50": 3.0, "search_p99": 9.0}},
        "ann": {"vectors": 12_000, "dim": 128, "rows": [{**index, "p50": 0.1, "p99": 0.2}]},
    }
    return {"worlds": {"shop": world}}


def test_the_tables_say_what_was_measured() -> None:
    text = body(values())
    assert "## The built-in shop" in text and "900 documents with 1,800 images" in text
    (words,) = (line for line in text.splitlines() if line.startswith("| words (BM25)"))
    # Words are not asked by a picture; there is no figure to show.
    assert words.count("50.0 (40.0–60.0); 50.0 (40.0–60.0)") == 3 and "|  |" in words
    assert "| all | reciprocal rank fusion − images' vectors | +10.0 (-10.0 to +20.0) |" in text
    assert "| by size | scann 1 | hashed | 0.987 | 0.10 | 0.20 |" in text


def test_compositions_add_a_text_or_take_it_away() -> None:
    text_D, image_D = np.asarray([1.0, 0.0]), np.asarray([0.0, 1.0])
    made = compositions()
    for name, kind, sign in (("image + 0.5 text", "both", 1), ("image − 0.5 text", "less", -1)):
        vector_D = made[kind][name](text_D, image_D)
        assert vector_D == pytest.approx(np.asarray([sign, 1.0]) / np.sqrt(2))
    assert made["less"]["the image alone"](text_D, image_D) is image_D


def test_examples_are_drawn_with_frames_by_grade(tmp_path: Path) -> None:
    red = Image.new("RGB", (30, 20), "red")
    rows = [
        Row(way="words", found=[(red, 3), (None, 0)]),
        Row(way="rrf", found=[(red, 2), (red, 1), (red, 0)]),
    ]
    examples = [
        Example(text="빨간 체크 셔츠 추천해 주세요", image=None, rows=rows),
        Example(text="", image=red, rows=rows),
    ]
    write_examples(tmp_path / "s.png", examples, title="질의")
    with Image.open(tmp_path / "s.png") as drawn:
        colors = {color for _, color in drawn.convert("RGB").getcolors(1 << 20) or []}
    frames = ((31, 138, 59), (124, 196, 127), (240, 180, 41), (208, 208, 212))
    assert set(frames) | {(255, 0, 0)} <= colors
