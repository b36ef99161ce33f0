"""What tasks are given and what they answer."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from kmm_jax.corpus import tables
from kmm_jax.corpus.config import CorpusConfig, Described
from kmm_jax.training import dump

_DESCRIPTION = tuple(field.name for field in dataclasses.fields(Described))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a task did.

    Attributes:
        rows: it was given.
        counts: what became of them, by reason; ``kept`` among them.
        done_before: its output was there already, of the same input and rules.
    """

    rows: int
    counts: dict[str, int]
    done_before: bool = False

    def dumps(self) -> str:
        """As JSON, without ``done_before``."""
        return json.dumps({"rows": self.rows, "counts": self.counts}, sort_keys=True)

    @classmethod
    def loads(cls, text: str, *, done_before: bool = False) -> Answer:
        """The answer ``dumps`` wrote."""
        return cls(**json.loads(text), done_before=done_before)


def config_text(config: CorpusConfig) -> str:
    """The config as tasks carry it."""
    return json.dumps(dump.to_json(config), sort_keys=True)


def config_of(task: dict[str, Any]) -> CorpusConfig:
    """The config a task carries."""
    return _config(task["config"])


@functools.lru_cache(maxsize=4)
def _config(text: str) -> CorpusConfig:
    config = dump.from_json(json.loads(text))
    assert isinstance(config, CorpusConfig)
    return config


def settings(value: Any) -> str:
    """A part of the config, as something that changes when what is built of it does."""
    return tables.digest(_without_descriptions(dump.to_json(value)))


def _without_descriptions(values: Any) -> Any:
    if isinstance(values, list):
        return [_without_descriptions(value) for value in values]
    if not isinstance(values, dict):
        return values
    described = _DESCRIPTION if "url" in values else ()
    return {
        key: _without_descriptions(value) for key, value in values.items() if key not in described
    }


def spread(
    rows: Iterable[Mapping[str, Any]], column: str, buckets: int
) -> list[list[Mapping[str, Any]]]:
    """The rows in buckets by what stands in a column, in their order."""
    groups: list[list[Mapping[str, Any]]] = [[] for _ in range(buckets)]
    for row in rows:
        groups[bucket(row[column], buckets)].append(row)
    return groups


def spread_table(table: pa.Table, column: str, buckets: int) -> Iterator[pa.Table]:
    """As ``spread``, of a table."""
    numbers = [bucket(text, buckets) for text in table[column].to_pylist()] if buckets > 1 else []
    for wanted in range(buckets):
        here = [row for row, number in enumerate(numbers) if number == wanted]
        yield table.take(pa.array(here, pa.int64())) if buckets > 1 else table


def bucket(text: str, buckets: int) -> int:
    """Which bucket a key or hash falls in; the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets
