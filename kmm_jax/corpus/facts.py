"""Stage 1: the facts of every picture, a table for each file of pictures."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from kmm_jax.corpus import sources, tables
from kmm_jax.corpus.images import image_facts
from kmm_jax.corpus.jobs import Answer, config_of, settings, spread_table

VERSION = 6

_COLUMNS = {
    "key": pa.string(),
    "image_hash": pa.string(),
    "perceptual": pa.uint64(),
    "look": pa.binary(),
    "width": pa.int32(),
    "height": pa.int32(),
    "white": pa.float32(),
    "file": pa.int32(),
    "row": pa.int32(),
    "place": pa.list_(pa.int64(), 2),
    "url": pa.string(),
    "beside": pa.string(),
}
KEPT = pa.schema(_COLUMNS)
FACTS = pa.schema({**_COLUMNS, "reason": pa.string(), "note": pa.string()})
_GROUP_ROWS = 4096


def run(task: dict[str, Any]) -> Answer:
    """Look at one file's pictures.

    Args:
        task: ``file`` and its ``number`` among all, the ``source`` it belongs to, ``facts`` and
            ``keys``, the tables to write (all pictures; those kept, in ``buckets`` by key), and the
            corpus's ``config``.
    """
    config = config_of(task)
    source = config.images[task["source"]]
    facts, keys = Path(task["facts"]), Path(task["keys"])
    mark = tables.fingerprint(
        task["file"],
        VERSION,
        task["number"],
        task["buckets"],
        settings(source),
        settings(config.image_rules),
    )
    told = tables.about(keys)
    # Written in this order; of another build's pair only one may be there yet.
    if told.get("fingerprint") == mark == tables.about(facts).get("fingerprint"):
        return Answer.loads(told["answer"], done_before=True)
    reasons: collections.Counter[str] = collections.Counter()
    kept: list[pa.Table] = []  # a fifth of what the rows take as dictionaries

    def groups() -> Iterator[pa.Table]:
        held: list[dict[str, Any]] = []
        for picture in sources.pictures(source, task["file"]):
            found = image_facts(picture.data or b"", config.image_rules)
            reasons[found.reason or "kept"] += 1
            row = {
                **found._asdict(),
                "key": picture.key,
                "file": task["number"],
                "row": picture.row,
                "place": list(picture.place),
                "url": picture.url,
                "beside": picture.beside,
            }
            held.append(row)
            if len(held) == _GROUP_ROWS:
                yield whole(held)
                held = []
        yield whole(held)

    def whole(rows: list[dict[str, Any]]) -> pa.Table:
        table = pa.Table.from_pylist(rows, schema=FACTS)
        kept.append(table.filter(table["reason"].is_null()).select(KEPT.names))
        return table

    tables.write(facts, FACTS, groups(), lambda: {"fingerprint": mark})
    answer = Answer(rows=reasons.total(), counts=dict(reasons))
    tables.write(
        keys,
        KEPT,
        spread_table(pa.concat_tables(kept), "key", task["buckets"]),
        lambda: {"fingerprint": mark, "answer": answer.dumps()},
    )
    return answer
