"""The tables of ``docs/results/search.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kmm_jax.demo.corpus import SHOP
from kmm_jax.demo.products import NAME as PRODUCTS
from kmm_jax.search.learned_fusion import KINDS
from tools import results

WAYS = ("words", "text", "image", "rrf", "weighted", "learned")
"""Of ranking documents."""

_TITLES = {
    "words": "words (BM25)",
    "text": "titles' vectors",
    "image": "images' vectors",
    "rrf": "reciprocal rank fusion",
    "weighted": "weighted fusion",
    "learned": "learned fusion, cross-validated",
}
_WORLDS = {SHOP: "The built-in shop", PRODUCTS: "Real product photos"}


def body(values: Mapping[str, Any]) -> str:
    """The tables."""
    parts = [
        "![What each way finds first](search.png)",
        "",
        "The picture: queries of each kind from the middle by the learned fusion's nDCG@10, "
        "neither the best nor the worst; a frame's colour is the document's grade.",
        "",
    ]
    for name, world in values["worlds"].items():
        counts = world["corpus"]["queries"]
        parts += [
            f"## {_WORLDS[name]}",
            "",
            f"{world['corpus']['documents_made']:,} documents with {world['images']:,} images; "
            f"{counts['text']} queries by text, {counts['image']} by image, "
            f"{counts['both']} by both. nDCG@10 and MRR in percent, with 95 % bootstrap "
            "intervals over queries.",
            "",
            _relevance(world["relevance"]),
            "",
            "Differences in nDCG@10, query by query (points); the best single matcher is the best "
            "of that kind of query:",
            "",
            _difference_table(world["differences"]),
            "",
            "What the learned fusion listens to (the spread of each matcher's part, in percent):",
            "",
            _listening(world["learned"]),
            "",
            "Composed queries, images' vectors alone:",
            "",
            _composed_table(world["composed"]),
            "",
            "### Speed and the index, apart from relevance",
            "",
            _latency_table(world["latency"]),
            "",
            f"The same queries over {world['ann']['vectors']:,} pictures of the training data "
            f"({world['ann']['dim']} dimensions), one at a time:",
            "",
            _ann_table(world["ann"]["rows"]),
            "",
        ]
    return "\n".join(parts)


def _figure(values: Sequence[float]) -> str:
    value, low, high = (100 * each for each in values)
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def _relevance(rows: Sequence[Mapping[str, Any]]) -> str:
    kinds = [kind for kind in (*KINDS, "all") if any(row["kind"] == kind for row in rows)]
    by = {(row["way"], row["kind"]): row for row in rows}
    lines = []
    for way in WAYS:
        if (way, "all") not in by:
            continue
        cells = []
        for kind in kinds:
            row = by[way, kind]
            asked = not (way == "words" and kind == "image")
            cells.append(f"{_figure(row['ndcg@10'])}; {_figure(row['mrr'])}" if asked else "")
        lines.append((_TITLES[way], *cells))
    names = {"text": "text", "image": "image", "both": "text and image", "all": "all"}
    return results.table(("by", *(f"{names[kind]}: nDCG@10; MRR" for kind in kinds)), lines)


def _difference_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        (
            row["kind"],
            f"{_TITLES[row['way']].partition(',')[0]} − {_TITLES[row['other']]}",
            f"{100 * row['value']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})",
        )
        for row in rows
    ]
    return results.table(("queries", "difference", "points"), lines)


def _listening(shares: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        (
            kind,
            *(f"{100 * of[name]:.0f}" if name in of else "" for name in ("words", "text", "image")),
        )
        for kind, of in shares.items()
        if of
    ]
    return results.table(("queries", "words", "titles", "images"), lines)


def _composed_table(composed: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    titles = {
        "both": "what the picture shows, but what the text says",
        "less": "what the picture shows, but not in its colour",
    }
    lines = [
        (titles[kind], row["queries"], row["way"], _figure(row["ndcg@10"]), _figure(row["mrr"]))
        for kind, rows in composed.items()
        for row in rows
    ]
    return results.table(("asked for", "queries", "searched with", "nDCG@10", "MRR"), lines)


def _latency_table(latency: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        (kind, *(f"{row[name]:.1f}" for name in ("vector_p50", "search_p50", "search_p99")))
        for kind, row in latency.items()
    ]
    return results.table(
        ("queries", "the query's vector, p50 ms", "search of 10 documents, p50 ms", "p99 ms"), lines
    )


def _ann_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        (
            row["index"],
            row["engine"],
            row["layout"],
            f"{row['recall@10']:.3f}",
            f"{row['p50']:.2f}",
            f"{row['p99']:.2f}",
        )
        for row in rows
    ]
    return results.table(("index", "engine", "layout", "recall@10", "p50 ms", "p99 ms"), lines)
