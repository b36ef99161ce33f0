"""Stage 5: the shards that training reads; each one from a stretch of the files of pictures.

Rows are in the order of the files and of the rows in them, so a shard's pictures stand in one file
or a few that follow each other, and are read once, in order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.corpus import beside, judge, sources, tables
from kmm_jax.corpus.jobs import Answer, config_of
from kmm_jax.corpus.scoring import similarity
from kmm_jax.corpus.scoring.protocol import Score
from kmm_jax.data.shards import write_shard
from kmm_jax.files import atomic_write

VERSION = 1


def run(task: dict[str, Any]) -> Answer:
    """Write one shard.

    Args:
        task: the ``parts`` it is made of, each a ``file``, its ``source``, its ``judged`` table and
            the ``first`` and ``last`` of the rows kept there that belong here; where to ``write``;
            ``done``, a file that is there once the shard is, see ``about``.
    """
    path, done = Path(task["write"]), Path(task["done"])
    if done.exists() and path.exists():
        told = json.loads(done.read_text("utf-8"))
        return Answer(rows=told["rows"], counts={"kept": told["rows"]}, done_before=True)
    rows = write_shard(path, _rows(task))
    sha256, size = digest(path)
    with atomic_write(done, "w") as file:
        json.dump({"rows": rows, "bytes": size, "sha256": sha256}, file)
    return Answer(rows=rows, counts={"kept": rows})


def about(done: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of a shard, as the task that wrote it left them."""
    told = json.loads(done.read_text("utf-8"))
    return {"bytes": told["bytes"], "sha256": told["sha256"]}


def _rows(task: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bytes]]:
    config = config_of(task)
    for part in task["parts"]:
        rows = tables.group(Path(part["judged"]), judge.KEPT)[part["first"] : part["last"]]
        source = config.images[part["source"]]
        places = [tuple(row["place"]) for row in rows]
        pictures = sources.pictures_at(source, part["file"], places)
        for row, data in zip(rows, pictures, strict=True):
            yield record(row, config.scores), data


def record(row: Mapping[str, Any], scores: Sequence[Score] = ()) -> dict[str, Any]:
    """What stands beside the picture (slide 2.3)."""
    found: dict[str, Any] = {
        "image_hash": row["image_hash"],
        "image_size": [row["width"], row["height"]],
        "image_white_pixel_ratio": round(row["white"], 6),
    }
    if row["url"]:
        found["image_url"] = row["url"]
    if row["titles"]:
        found["title"] = row["titles"][0]
    found |= beside.fields(row["beside"])
    if row["query"]:
        found |= {"query": row["query"], "query_count": row["query_count"]}
    for column in (column for score in scores for column in score.columns()):
        value = row[column]
        if column in similarity.OF_ONE:
            value = value[0] if value else None
        if value not in (None, []):
            found[column] = value
    return found


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 and bytes of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest(), path.stat().st_size
