"""Stage 2: the titles of documents and the queries of clicks, cleaned; a table for each file."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmm_jax.corpus import sources, tables
from kmm_jax.corpus.config import Clicks
from kmm_jax.corpus.jobs import Answer, config_of, settings, spread
from kmm_jax.corpus.join import TEXTS
from kmm_jax.corpus.text import clean_batch

VERSION = 1

_AT_ONCE = 4096


def run(task: dict[str, Any]) -> Answer:
    """Clean one file's texts; those rejected leave, the same text of one key is counted together.

    Args:
        task: the ``file``, its ``kind`` (documents or clicks), the ``source`` it belongs to, where
            to ``write``, ``buckets`` by key, and the corpus's ``config``.
    """
    config = config_of(task)
    source = getattr(config, task["kind"])[task["source"]]
    path = Path(task["write"])
    mark = tables.fingerprint(
        task["file"], VERSION, task["buckets"], settings(source), settings(config.text_rules)
    )
    told = tables.about(path)
    if told.get("fingerprint") == mark:
        return Answer.loads(told["answer"], done_before=True)
    counts: collections.Counter[str] = collections.Counter()
    total: dict[tuple[str, str], int] = collections.defaultdict(int)
    for rows in _batches(source, task["file"]):
        cleaned = clean_batch([text for _, text, _ in rows], config.text_rules)
        for (key, _, count), found in zip(rows, cleaned, strict=True):
            # A text is rejected for one reason in the account: the first of those it has.
            rejected = found.decision == "reject"
            counts[found.reasons[0] if rejected else "kept"] += 1
            if not rejected:
                total[key, found.text] += count
    answer = Answer(rows=counts.total(), counts=dict(counts))
    texts = [{"key": key, "text": text, "count": n} for (key, text), n in sorted(total.items())]
    about = {"fingerprint": mark, "answer": answer.dumps()}
    tables.write(path, TEXTS, spread(texts, "key", task["buckets"]), lambda: about)
    return answer


def _batches(source: Any, file: str) -> Iterator[list[tuple[str, str, int]]]:
    """(key, text, count) of the rows, many at a time; a row without a key has no picture."""
    counted = isinstance(source, Clicks) and source.count is not None
    text = source.query if isinstance(source, Clicks) else source.title
    columns = [source.key, text, *([source.count] if counted else [])]
    rows = (
        (
            "" if row[source.key] is None else str(row[source.key]),
            "" if row[text] is None else str(row[text]),
            _count(row[source.count]) if counted else 1,
        )
        for row in sources.rows(file, columns)
    )
    while batch := list(itertools.islice(rows, _AT_ONCE)):
        yield batch


def _count(value: Any) -> int:
    """A number of clicks; what is none counts as one row."""
    return int(value) if isinstance(value, int | float) and value >= 1 else 1
