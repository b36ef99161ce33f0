"""Stage 5: the shards that training reads; each one from a stretch of the files of pictures.

Rows are in the order of the files and of the rows in them, so a shard's pictures stand in one file
or a few that follow each other, and are read once, in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kmm_jax.corpus import sources, tables
from kmm_jax.corpus.jobs import Answer, config_of
from kmm_jax.data.shards import write_shard
from kmm_jax.files import atomic_write


def run(task: dict[str, Any]) -> Answer:
    """Write one shard.

    Args:
        task: the ``parts`` it is made of, each a ``file`` with its ``number``, its ``source`` and
            the ``first`` and ``last`` of its chosen rows that belong here; the ``chosen`` tables;
            where to ``write``; ``done``, a file that is there once the shard is.
    """
    path, done = Path(task["write"]), Path(task["done"])
    if done.exists() and path.exists():
        return Answer.loads(done.read_text("utf-8"), done_before=True)
    rows = write_shard(path, _rows(task))
    answer = Answer(rows=rows, counts={"kept": rows})
    with atomic_write(done, "w") as file:
        file.write(answer.dumps())
    return answer


def _rows(task: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bytes]]:
    config = config_of(task)
    for part in task["parts"]:
        chosen = [
            row for path in task["chosen"] for row in tables.group(Path(path), part["number"])
        ]
        chosen.sort(key=lambda row: row["row"])
        chosen = chosen[part["first"] : part["last"]]
        source = config.images[part["source"]]
        places = [tuple(row["place"]) for row in chosen]
        for row, data in zip(
            chosen, sources.pictures_at(source, part["file"], places), strict=True
        ):
            yield record(row), data


def record(row: Mapping[str, Any]) -> dict[str, Any]:
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
    if row["query"]:
        found |= {"query": row["query"], "query_count": row["query_count"]}
    return found


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 and bytes of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest(), path.stat().st_size
