"""Stage 3: pictures with their texts, each picture once; metadata only, a bucket at a time.

    join      pictures, documents, clicks and products of one key (buckets by key)
    merge     pictures of one hash: texts together, queries added (buckets by hash)
    near      pairs of pictures whose perceptual hashes are close (buckets by band)
    choose    what stays, by the file it is in

A bucket is a row group of each table of the step before, so memory holds one bucket and not the
corpus, and each bucket is done once.
"""

from __future__ import annotations

import collections
import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kmm_jax.corpus import beside, tables
from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.facts import KEPT
from kmm_jax.corpus.images import alike
from kmm_jax.corpus.jobs import Answer, config_of, settings, spread
from kmm_jax.corpus.purge import hashes

VERSION = 3

TEXTS = pa.schema({"key": pa.string(), "text": pa.string(), "count": pa.int64()})
PRODUCTS = pa.schema({"key": pa.string(), "beside": pa.string()})
_TEXTS_OF = {
    "titles": pa.list_(pa.string()),
    "title_counts": pa.list_(pa.int64()),
    "query": pa.list_(pa.string()),
    "query_count": pa.list_(pa.int64()),
}
JOINED = pa.schema({**{field.name: field.type for field in KEPT}, **_TEXTS_OF})
BANDS = pa.schema(
    {
        "band": pa.string(),
        "perceptual": pa.uint64(),
        "look": pa.binary(),
        "image_hash": pa.string(),
        "pixels": pa.int64(),
        "file": pa.int32(),
        "row": pa.int32(),
    }
)
_RANK = pa.list_(pa.int64(), 3)
PAIRS = pa.schema(
    {"better": pa.string(), "worse": pa.string(), "better_rank": _RANK, "worse_rank": _RANK}
)
DROPPED = pa.schema({"worse": pa.string(), "better": pa.string()})

# Rows that went in, groups of rows to write, what became of them.
Work = tuple[int, Sequence[Sequence[Mapping[str, Any]]], dict[str, int]]

# Pictures in one band are compared each with each; in a crowd (blank and near-blank pictures share
# bands by the thousand) only with so many of the best.
_CROWD = 512
# And so many near ones of each are told, the best: thousands of copies of one placeholder would be
# millions of pairs.
NEIGHBOURS = 16


def join(task: dict[str, Any]) -> Answer:
    """The pictures of one bucket of keys, with their texts.

    Args:
        task: ``bucket``, the tables of ``pictures``, ``documents``, ``clicks`` and ``products``,
            how many ``buckets`` there are, where to ``write``.
    """

    def groups(config: CorpusConfig, mark: str) -> Work:
        texts: dict[str, dict[str, collections.Counter[str]]] = {}
        for kind in ("documents", "clicks"):
            by_key: dict[str, collections.Counter[str]] = collections.defaultdict(
                collections.Counter
            )
            for row in _read(task[kind], task["bucket"]):
                by_key[row["key"]][row["text"]] += row["count"]
            texts[kind] = by_key
        products: dict[str, list[str | None]] = collections.defaultdict(list)
        for row in _read(task["products"], task["bucket"]):
            products[row["key"]].append(row["beside"])
        rows, seen = [], set()
        for row in _read(task["pictures"], task["bucket"]):
            titles = collections.Counter(texts["documents"].get(row["key"], ()))
            told = [row["beside"], *products.get(row["key"], ())]
            titles.update(beside.titles(told))
            row["beside"] = beside.merged(told, config.captions)
            rows.append(_with_texts(row, titles, texts["clicks"].get(row["key"], {})))
            seen.add(row["key"])
        without = {
            f"{kind}_without_picture": sum(
                counts.total() for key, counts in texts[kind].items() if key not in seen
            )
            for kind in texts
        }
        lost = sum(len(told) for key, told in products.items() if key not in seen)
        without["products_without_picture"] = lost
        return (
            len(rows),
            spread(rows, "image_hash", task["buckets"]),
            {"kept": len(rows), **without},
        )

    return _once(task, JOINED, groups)


def merge(task: dict[str, Any]) -> Answer:
    """Each picture of one bucket of hashes once, with the texts of all its copies.

    Writes the pictures that have a text, and to ``bands`` where near duplicates are looked for.
    """

    def groups(config: CorpusConfig, mark: str) -> Work:
        copies: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        for row in _read(task["joined"], task["bucket"]):
            copies[row["image_hash"]].append(row)
        counts: collections.Counter[str] = collections.Counter()
        chosen = []
        for image_hash in sorted(copies):
            rows = sorted(copies[image_hash], key=lambda row: (row["file"], row["row"]))
            counts["duplicate"] += len(rows) - 1
            one = _with_texts(
                rows[0],
                _added(rows, "titles", "title_counts"),
                _added(rows, "query", "query_count"),
            )
            one["beside"] = beside.merged([row["beside"] for row in rows], config.captions)
            one["query"] = one["query"][: config.queries]
            one["query_count"] = one["query_count"][: config.queries]
            if not (one["titles"] or one["query"] or beside.has_text(one["beside"])):
                counts["no_text"] += 1
                continue
            counts["kept"] += 1
            chosen.append(one)
        bands = [row for one in chosen for row in in_bands(one, config.duplicates.bits)]
        in_buckets = spread(bands, "band", task["buckets"])
        tables.write(Path(task["bands"]), BANDS, in_buckets, lambda: {"fingerprint": mark})
        return counts.total(), [chosen], dict(counts)

    return _once(task, JOINED, groups)


def near(task: dict[str, Any]) -> Answer:
    """Pairs of pictures of one bucket of bands that are near, by their hashes and a second look."""

    def groups(config: CorpusConfig, mark: str) -> Work:
        bands: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        for row in _read(task["bands_of"], task["bucket"]):
            bands[row["band"]].append(row)
        rules = config.duplicates
        assert rules.bits is not None
        pairs: dict[tuple[str, str], tuple[Rank, Rank]] = {}
        for rows in bands.values():
            ranked = sorted(
                (rank(row, config), row["image_hash"], row["perceptual"], row["look"])
                for row in rows
            )
            for place, (worse, worse_hash, bits_of_worse, look_of_worse) in enumerate(ranked):
                neighbours = 0
                for better, better_hash, bits_of_better, look in ranked[: min(place, _CROWD)]:
                    if (bits_of_better ^ bits_of_worse).bit_count() <= rules.bits and alike(
                        look, look_of_worse, shade=rules.shade, colour=rules.colour
                    ):
                        pairs[better_hash, worse_hash] = better, worse
                        neighbours += 1
                        if neighbours == NEIGHBOURS:
                            break
        found = [
            {"better": both[0], "worse": both[1], "better_rank": ranks[0], "worse_rank": ranks[1]}
            for both, ranks in sorted(pairs.items())
        ]
        return sum(map(len, bands.values())), [found], {"kept": len(found)}

    return _once(task, PAIRS, groups)


def choose(task: dict[str, Any]) -> Answer:
    """What stays of one bucket of hashes, in row groups by the number of the file it is in.

    Args:
        task: ``merged``, the bucket's table; ``dropped``, the table of near duplicates that do not
            stay; ``purged``, the list of pictures that were purged; ``files``, how many files of
            pictures there are.

    Near duplicates of a purged picture stay out as well: it took part when they were looked for.
    """
    purged = hashes.listed(Path(task["purged"]))

    def groups(config: CorpusConfig, mark: str) -> Work:
        dropped = {row["worse"] for row in _read([task["dropped"]], task["bucket"])}
        by_file: list[list[Mapping[str, Any]]] = [[] for _ in range(task["files"])]
        counts: collections.Counter[str] = collections.Counter()
        for row in _read([task["merged"]], 0):
            if row["image_hash"] in purged:
                counts["purged"] += 1
            elif row["image_hash"] in dropped:
                counts["near_duplicate"] += 1
            else:
                counts["kept"] += 1
                by_file[row["file"]].append(row)
        return counts.total(), by_file, dict(counts)

    return _once(task, JOINED, groups, *sorted(purged))


Rank = tuple[int, int, int]


def rank(row: Mapping[str, Any], config: CorpusConfig) -> Rank:
    """Of near duplicates the one with the lowest stays."""
    largest = config.duplicates.keep == "largest"
    return (-row["pixels"] if largest else 0, row["file"], row["row"])


def near_duplicates(pairs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Of the pairs ``near`` found, which pictures do not stay, and for which one each.

    Looked at from the best on, one goes if it is near one that stays; being near one that went is
    no reason, so that chains of small differences do not eat up different pictures.
    """
    near_of: dict[str, set[str]] = collections.defaultdict(set)
    ranks: dict[str, list[int]] = {}
    for pair in pairs:
        near_of[pair["worse"]].add(pair["better"])
        ranks |= {pair["worse"]: pair["worse_rank"], pair["better"]: pair["better_rank"]}
    gone: dict[str, str] = {}
    for worse in sorted(near_of, key=lambda image_hash: (ranks[image_hash], image_hash)):
        stays = [better for better in near_of[worse] if better not in gone]
        if stays:
            gone[worse] = min(stays, key=lambda image_hash: (ranks[image_hash], image_hash))
    return gone


def _once(task: dict[str, Any], schema: pa.Schema, work: Any, *also: str) -> Answer:
    """Do the work unless the same was done before; write its groups, answer its counts.

    Args:
        also: what else it depends on.
    """
    config = config_of(task)
    path = Path(task["write"])
    lists = ("pictures", "documents", "clicks", "products", "joined", "bands_of")
    inputs = [task[name] for name in lists if name in task]
    inputs = [path for paths in inputs for path in paths]
    inputs += [task[name] for name in ("merged", "dropped") if name in task]
    # Each table read knows what it was made from.
    made_from = [*(tables.about(Path(path)).get("fingerprint", path) for path in inputs), *also]
    most = config.queries, config.captions
    numbers = VERSION, task["bucket"], task.get("buckets"), task.get("files"), most
    mark = tables.digest([work.__qualname__, made_from, numbers, settings(config.duplicates)])
    told = tables.about(path)
    written = [path, *(Path(task[name]) for name in ("bands",) if name in task)]
    if all(tables.about(one).get("fingerprint") == mark for one in written):
        return Answer.loads(told["answer"], done_before=True)
    with _no_collector():
        rows, groups, counts = work(config, mark)
        answer = Answer(rows=rows, counts=counts)
        about = {"fingerprint": mark, "answer": answer.dumps()}
        tables.write(path, schema, groups, lambda: about)
    return answer


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """A bucket is a million dictionaries in no cycle: looking for one takes half of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read(paths: Sequence[str], number: int) -> Iterator[dict[str, Any]]:
    for path in paths:
        yield from tables.group(Path(path), number)


def _with_texts(
    row: Mapping[str, Any], titles: Mapping[str, int], queries: Mapping[str, int]
) -> dict[str, Any]:
    """The row with its texts, the most frequent first, then in the order of their letters."""

    def ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    named, asked = ordered(titles), ordered(queries)
    return {
        **row,
        "titles": [text for text, _ in named],
        "title_counts": [count for _, count in named],
        "query": [text for text, _ in asked],
        "query_count": [count for _, count in asked],
    }


def _added(rows: Sequence[Mapping[str, Any]], texts: str, counts: str) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for row in rows:
        for text, count in zip(row[texts], row[counts], strict=True):
            total[text] += count
    return total


def in_bands(row: Mapping[str, Any], bits: int | None) -> Iterator[dict[str, Any]]:
    """The perceptual hash in one part more than bits may differ: near ones agree in one of them."""
    if bits is None:
        return
    parts = bits + 1
    edges = [64 * part // parts for part in range(parts + 1)]
    for part in range(parts):
        width = edges[part + 1] - edges[part]
        value = (row["perceptual"] >> edges[part]) & ((1 << width) - 1)
        yield {
            "band": f"{part}:{value}",
            "perceptual": row["perceptual"],
            "look": row["look"],
            "image_hash": row["image_hash"],
            "pixels": row["width"] * row["height"],
            "file": row["file"],
            "row": row["row"],
        }
