"""Whether proposed noise words are those that were put in: on shops built as a corpus.

    python -m tools.noise_words
    python -m tools.noise_words --items 400 --seeds 1 --output /tmp/try

Writes ``docs/results/noise_words.*``. Queries of the noise kind are put onto random pictures of the
built-in shop; colours and edges of the pictures stand in for a model's embeddings.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.corpus.build import build
from kmm_jax.corpus.noise.counting import count
from kmm_jax.corpus.noise.gather import gather
from kmm_jax.corpus.noise.judge import judge
from kmm_jax.corpus.noise.propose import alone
from kmm_jax.corpus.noise.stream import Shards
from kmm_jax.corpus.noise.vectors import StoredVectors
from kmm_jax.corpus.noise.words import tokens
from kmm_jax.corpus.text import TextRules
from kmm_jax.data.images import decode
from kmm_jax.data.sources import open_source
from kmm_jax.retrieval import export_embeddings
from tools import dirty_shop, results

# The slide's six topics, and others that a picture shows as little; none is a word of the shop.
_TOPICS = (
    ("로또", ("로또 당첨번호", "로또 {}회", "이번주 로또", "로또")),
    ("주가", ("삼성 주가", "주가 전망", "오늘 주가", "주가")),
    ("영수증", ("영수증 재발급", "영수증", "영수증은 어디서")),
    ("확진자", ("코로나 확진자", "확진자 수", "확진자가 몇명")),
    ("지원금", ("지원금 신청", "지원금", "청년 지원금을")),
    ("악보", ("피아노 악보", "악보", "악보 다운로드")),
    ("날씨", ("내일 날씨", "날씨", "주말 날씨")),
    ("환율", ("달러 환율", "환율", "환율 계산기")),
    ("운세", ("오늘의 운세", "운세", "띠별 운세")),
    ("시간표", ("버스 시간표", "시간표", "기차 시간표")),
)
_SHARES = (0.015, 0.06)  # of the pictures, the least and the most that a topic is put onto
_MIXED = 0.2  # of these queries, the share that has a query of the picture itself behind it
_LEAST = 20
_WAYS = {
    "count": "frequent words alone",
    "z": "agreement against chance (z)",
    "agreement": "agreement against the typical word, with the benefit of the doubt",
    "noise": "the same, times how often it stands alone (what the command does)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=2000, help="pictures of a shop")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="instead of docs/results")
    arguments = parser.parse_args(argv)
    if arguments.output is not None:
        results.FOLDER = arguments.output
    shops = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            shops.append(of_a_shop(Path(folder), arguments.items, seed))
    values = {"items": arguments.items, "least_count": _LEAST, "shops": shops}
    results.write(
        "noise_words",
        title="Proposed noise words",
        command="python -m tools.noise_words",
        values=values,
        body=_body(values),
    )
    return 0


def of_a_shop(folder: Path, items: int, seed: int) -> dict[str, Any]:
    """Build a shop with noise queries, and rank its words in several ways."""
    config = dirty_shop.write(folder / "raw", items=items, seed=100 + seed, image_size=208)
    put = inject(folder / "raw", seed)
    # The rules would take the slide's own words out; here they have to be found.
    rules = TextRules(noise_topic="off")
    manifest = build(dataclasses.replace(config, text_rules=rules), folder / "out")
    pattern = str(folder / "out/shards/train-*.tar")
    embed(pattern, folder / "embeddings")
    shards = Shards(pattern)
    counted = count(shards, least=_LEAST, most_words=50_000, progress=lambda _: None)
    gathered = gather(shards, StoredVectors(folder / "embeddings"), counted, lambda _: None)
    judged = judge(gathered.sums, _LEAST, None, list(counted.ids))
    alone_V = alone(shards, counted, judged, lambda *_: None)
    scores = {
        "count": gathered.sums.counts_V.astype(float),
        "z": -judged.z_V,
        "agreement": -judged.ratio_V,
        "noise": judged.noise_V * alone_V,
    }
    # Single words are compared: of a phrase every word was put in as well.
    words = [
        (word, number)
        for word, number in counted.ids.items()
        if " " not in word and judged.enough_V[number]
    ]
    true = {word for word, _ in words if word in put}
    ranked = {
        way: [word for word, _ in sorted(words, key=lambda one: -score_V[one[1]])]
        for way, score_V in scores.items()
    }
    return {
        "seed": seed,
        "rows": manifest["rows"],
        "words": len(words),
        "true": sorted(true),
        "ways": {way: _against(some, true) for way, some in ranked.items()},
        "first": [
            {
                "word": word,
                "pictures": int(gathered.sums.counts_V[counted.ids[word]]),
                "agreement": float(judged.agreement_V[counted.ids[word]]),
                "z": float(judged.z_V[counted.ids[word]]),
                "alone": float(alone_V[counted.ids[word]]),
                "noise": float(scores["noise"][counted.ids[word]]),
                "put_in": word in true,
            }
            for word in ranked["noise"][: 2 * len(true)]
        ],
    }


def inject(raw: Path, seed: int) -> set[str]:
    """Put noise queries onto random pictures; returns the words that only they have."""
    rng = Random(f"noise/{seed}")
    paths = sorted(raw.glob("clicks-*.parquet"))
    own = [row for path in paths for row in pq.read_table(path).to_pylist()]
    titles = [
        title
        for path in sorted(raw.glob("documents-*.parquet"))
        for title in pq.read_table(path).column("title").to_pylist()
    ]
    # The shop's own dirt: titles about a lottery, on random pictures as well.
    dirt = [title for title in titles if title.startswith("로또")]
    clean = {title for title in titles if title not in dirt} | {row["query"] for row in own}
    of_shop = {word for text in clean for word in tokens(text)}
    queries: dict[str, list[str]] = {}
    for row in own:
        queries.setdefault(row["key"], []).append(row["query"])
    put = {word for title in dirt for word in tokens(title)}
    added = []
    for _, forms in _TOPICS:
        low, high = _SHARES
        share = low * (high / low) ** rng.random()
        for key in rng.sample(sorted(queries), round(share * len(queries))):
            query = rng.choice(forms).format(rng.randrange(900, 1200))
            put |= set(tokens(query))
            if rng.random() < _MIXED:
                query = f"{query} {rng.choice(queries[key])}"
            added.append({"key": key, "query": query, "clicks": rng.randrange(1, 9)})
    rng.shuffle(added)
    for number, path in enumerate(paths):
        table = pq.read_table(path)
        more = pa.Table.from_pylist(added[number :: len(paths)], schema=table.schema)
        pq.write_table(pa.concat_tables([table, more]), path)
    return put - of_shop


def embed(pattern: str, folder: Path) -> None:
    """Colours and edges of every picture, each brought to mean 0 and deviation 1, as embeddings."""
    source = open_source(pattern)
    rows = [source.read(number) for number in range(len(source))]
    features_ND = np.stack([features(decode(row.image, 64)) for row in rows])
    features_ND -= features_ND.mean(axis=0)
    features_ND /= features_ND.std(axis=0) + 1e-6
    export_embeddings(
        folder,
        rows=len(rows),
        part_rows=512,
        compute=lambda start, stop: ([row.key for row in rows[start:stop]],
                                     features_ND[start:stop]),
        kind="image",
        model_hash="colours and edges",
        dim=features_ND.shape[1],
    )  # fmt: skip


def features(pixels_HWC: np.ndarray) -> np.ndarray:
    """Mean colours (48) and directions of edges (128) in 4 x 4 fields, shares of colours (64)."""
    side = min(pixels_HWC.shape[:2]) // 4 * 4
    top, left = (size // 2 - side // 2 for size in pixels_HWC.shape[:2])
    image = pixels_HWC[top : top + side, left : left + side].astype(np.float32) / 255
    step = side // 4
    means = image.reshape(4, step, 4, step, 3).mean(axis=(1, 3)).ravel()
    dy, dx = np.gradient(image.mean(axis=2))
    kinds = ((np.arctan2(dy, dx) + np.pi) / (2 * np.pi) * 8).astype(int) % 8
    edges = np.zeros((4, 4, 8), np.float32)
    rows, columns = np.indices(kinds.shape) // step
    np.add.at(edges, (rows, columns, kinds), np.hypot(dy, dx))
    bins = np.minimum((image * 4).astype(int), 3) @ np.array([16, 4, 1])
    colours = np.bincount(bins.ravel(), minlength=64) / bins.size
    return np.concatenate([means, np.sqrt(edges.ravel()), np.sqrt(colours)]).astype(np.float32)


def _against(ranked: list[str], true: set[str]) -> dict[str, float]:
    first, twice = (set(ranked[: times * len(true)]) & true for times in (1, 2))
    return {
        "precision_at_k": len(first) / len(true),
        "recall_at_2k": len(twice) / len(true),
    }


def _body(values: dict[str, Any]) -> str:
    shops = values["shops"]

    def over(way: str, what: str) -> str:
        found = [shop["ways"][way][what] for shop in shops]
        return f"{statistics.mean(found):.1%} ({min(found):.0%} to {max(found):.0%})"

    ways = [
        (told, over(way, "precision_at_k"), over(way, "recall_at_2k"))
        for way, told in _WAYS.items()
    ]
    first = [
        (
            row["word"],
            row["pictures"],
            row["agreement"],
            f"{row['z']:.1f}",
            row["alone"],
            row["noise"],
            "yes" if row["put_in"] else "no",
        )
        for row in shops[0]["first"]
    ]
    true = [len(shop["true"]) for shop in shops]
    judged = [shop["words"] for shop in shops]
    return "\n\n".join(
        (
            f"{len(shops)} shop(s) of {values['items']:,} pictures, built as corpora; queries "
            f"of {len(_TOPICS)} topics of the noise kind (로또, 주가, 영수증 ...) were put "
            f"before that onto random pictures, {_SHARES[0]:.1%} to {_SHARES[1]:.0%} of them "
            "each; one query in "
            f"{round(1 / _MIXED)} has words of the picture behind it. Of the {min(judged)} to "
            f"{max(judged)} words beside at least {values['least_count']} pictures, "
            f"k = {min(true)} to {max(true)} were put in. Which share of the first k are they "
            "(their recall at k too), and which share of them stands among the first 2k:",
            results.table(("ranked by", "precision at k (seeds)", "recall at 2k (seeds)"), ways),
            "The vectors are **no model's**: colours and edges of the drawn pictures in 240 "
            "numbers, which know a garment's colour well, its kind somewhat and its cut hardly. "
            "The noise is random by construction; that of real queries (pictures of lottery slips "
            "look alike) is harder, so these figures are an upper bound. The two "
            "thresholds were chosen on shops of other seeds.",
            "The first shop's first 2k proposals:",
            results.table(
                ("word", "pictures", "agreement", "z", "alone", "noise", "put in"), first
            ),
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
