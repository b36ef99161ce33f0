"""Stage 2: texts cleaned, of documents, clicks and products and beside pictures; a table a file."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kmm_jax.corpus import beside, sources, tables
from kmm_jax.corpus.config import Clicks, Documents, Products
from kmm_jax.corpus.facts import KEPT
from kmm_jax.corpus.jobs import Answer, config_of, settings, spread
from kmm_jax.corpus.join import PRODUCTS, TEXTS
from kmm_jax.corpus.text import TextRules, clean_batch
from kmm_jax.corpus.text.words import lists_mark
from kmm_jax.corpus.text_samples import TextSamples

VERSION = 5

_AT_ONCE = 4096
# Of one row: millions of such rows still add up to what 64 bits hold.
_MOST_CLICKS = 10**12
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def run(task: dict[str, Any]) -> Answer:
    """Clean one file's texts; those rejected leave, the same text of one key is counted together.

    Of documents and clicks a cell of bytes is read as UTF-8, and one that holds several values (a
    list, a map) is ``malformed``.

    Args:
        task: the ``file``, its ``kind`` (documents, clicks or products), the ``source`` it belongs
            to, where to ``write``, ``buckets`` by key, and the corpus's ``config``.
    """
    config = config_of(task)
    source = getattr(config, task["kind"])[task["source"]]
    rules, buckets = config.text_rules, task["buckets"]
    mark = tables.fingerprint(
        task["file"], VERSION, buckets, settings(source), settings(rules), lists_mark(rules)
    )
    counts: collections.Counter[str] = collections.Counter()
    samples = TextSamples(rules)

    def groups() -> Iterable[Sequence[Mapping[str, Any]]]:
        rows = _products if isinstance(source, Products) else _counted
        return spread(rows(source, task["file"], rules, counts, samples), "key", buckets)

    schema = PRODUCTS if isinstance(source, Products) else TEXTS
    return _once(Path(task["write"]), schema, mark, groups, counts, samples)


def beside_pictures(task: dict[str, Any]) -> Answer:
    """Clean what came with the pictures of one file; apart from looking at them, which is slow.

    Args:
        task: ``keys``, the table of its pictures in ``buckets`` by key; where to ``write`` it with
            its texts cleaned; the corpus's ``config``.
    """
    keys, rules = Path(task["keys"]), config_of(task).text_rules
    made_from = tables.about(keys)["fingerprint"]
    mark = tables.digest([made_from, VERSION, task["buckets"], settings(rules), lists_mark(rules)])
    counts: collections.Counter[str] = collections.Counter()
    samples = TextSamples(rules)

    def groups() -> Iterator[list[dict[str, Any]]]:
        for number in range(task["buckets"]):
            rows = tables.group(keys, number)
            for start in range(0, len(rows), _AT_ONCE):
                some = rows[start : start + _AT_ONCE]
                told = beside.cleaned([row["beside"] for row in some], rules, counts, samples)
                for row, clean in zip(some, told, strict=True):
                    row["beside"] = clean
            yield rows

    return _once(Path(task["write"]), KEPT, mark, groups, counts, samples)


def _once(
    path: Path,
    schema: pa.Schema,
    mark: str,
    groups: Any,
    counts: collections.Counter[str],
    samples: TextSamples,
) -> Answer:
    """Write what ``groups`` gives while it counts, unless the same was written before."""
    told = tables.about(path)
    if told.get("fingerprint") == mark:
        return Answer.loads(told["answer"], done_before=True)

    def answer() -> Answer:
        return Answer(rows=counts.total(), counts=dict(counts))

    def about() -> dict[str, str]:
        return {"fingerprint": mark, "answer": answer().dumps(), "samples": samples.dumps()}

    tables.write(path, schema, groups(), about)
    return answer()


def columns_of(source: Documents | Clicks | Products) -> list[str]:
    """The columns that are read of a source's tables."""
    if isinstance(source, Products):
        named = [source.key, *beside.columns(source)]
    elif isinstance(source, Clicks):
        named = [source.key, source.query, *([] if source.count is None else [source.count])]
    else:
        named = [source.key, source.title]
    return list(dict.fromkeys(named))


def _counted(
    source: Any,
    file: str,
    rules: TextRules,
    counts: collections.Counter[str],
    samples: TextSamples,
) -> Iterator[dict[str, Any]]:
    """Each clean text of a key, once, with how often it came."""
    counted = isinstance(source, Clicks) and source.count is not None
    text = source.query if isinstance(source, Clicks) else source.title
    columns = columns_of(source)
    total: dict[tuple[str, str], int] = collections.defaultdict(int)
    for rows in _batches(file, columns, counts):
        said = [_said(row[text]) for row in rows]
        rows = [row for row, one in zip(rows, said, strict=True) if one is not None]
        texts = [one for one in said if one is not None]
        if len(texts) < len(said):
            counts["malformed"] += len(said) - len(texts)
        for row, one, found in zip(rows, texts, clean_batch(texts, rules), strict=True):
            samples.offer(one, found)
            # A text is rejected for one reason in the account.
            reason = beside.fate(found)
            counts[reason] += 1
            if reason == "kept":
                key = sources.key_of(row[source.key])
                total[key, found.text] += _count(row[source.count]) if counted else 1
    for (key, clean), count in sorted(total.items()):
        yield {"key": key, "text": clean, "count": count}


def _products(
    source: Products,
    file: str,
    rules: TextRules,
    counts: collections.Counter[str],
    samples: TextSamples,
) -> Iterator[dict[str, Any]]:
    """What is left of each row, in the file's order."""
    columns = columns_of(source)
    for rows in _batches(file, columns, counts):
        said = [beside.told(source, row) for row in rows]
        told = beside.cleaned(said, rules, counts, samples)
        for row, clean in zip(rows, told, strict=True):
            if clean:
                yield {"key": sources.key_of(row[source.key]), "beside": clean}


def _batches(
    file: str, columns: Sequence[str], counts: collections.Counter[str]
) -> Iterator[list[dict[str, Any]]]:
    """The rows, many at a time; malformed ones are counted."""
    every = sources.rows(file, columns)
    while batch := list(itertools.islice(every, _AT_ONCE)):
        rows = [row for row in batch if row is not None]
        if len(rows) < len(batch):
            counts["malformed"] += len(batch) - len(rows)
        yield rows


def _said(value: Any) -> str | None:
    """The text in a cell, empty where there is none; None for a cell of several values."""
    if isinstance(value, list | dict):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _count(value: Any) -> int:
    """A number of clicks, in a text also as 5.0, 1e3 or 1,234; what is none counts as one row."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        value = _THOUSANDS.sub("", value)
    try:
        return min(max(1, int(float(value))), _MOST_CLICKS)
    except (TypeError, ValueError, OverflowError):
        return 1
