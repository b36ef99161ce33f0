"""The whole pipeline: stages in order, counts added up, shards shown once all are whole.

FOLDER/work/facts,keys,documents,clicks/   a table for each file read
FOLDER/work/joined,merged,bands,near,chosen/   a table for each bucket
FOLDER/shards/                             train-000.tar ... and manifest.json, whole or absent
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.corpus import engine, join, shards, tables
from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.jobs import Answer, config_text, settings, spread
from kmm_jax.data.patterns import expand
from kmm_jax.data.storage import stamp
from kmm_jax.errors import DataError
from kmm_jax.files import write_json
from kmm_jax.training import dump

FORMAT = "kmm_jax corpus 1"

# Bytes of input for a bucket: its rows, without pictures, take some hundred megabytes of memory.
_PICTURES_A_BUCKET = 16 << 30
_TEXTS_A_BUCKET = 256 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage did.

    Attributes:
        rows: that went in.
        counts: what became of them; ``kept`` among them.
        tasks, done_before: how many, and how many of them needed no work.
    """

    name: str
    rows: int
    counts: dict[str, int]
    tasks: int
    done_before: int


Progress = Callable[[str, int, int, Mapping[str, int]], None]


def build(
    config: CorpusConfig, folder: Path, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Build the corpus in ``folder``, or what is left to be done of it; returns the manifest.

    Args:
        progress: told the stage's name, tasks done, tasks in all and counts so far.

    Raises:
        DataError: an input cannot be read, or lacks a column.
        ConfigError: the engine is not installed, or an input's pattern matches nothing.
    """
    return _Build(config, folder, progress).run()


class _Build:
    def __init__(self, config: CorpusConfig, folder: Path, progress: Progress) -> None:
        self.config, self.folder, self.progress = config, folder, progress
        self.work = folder / "work"
        self.text = config_text(config)
        self.stages: list[Stage] = []
        self.pictures = _files(config.images)
        self.documents, self.clicks = _files(config.documents), _files(config.clicks)
        size = sum(stamp(file)[0] for _, file in self.pictures)
        texts = sum(stamp(file)[0] for _, file in (*self.documents, *self.clicks))
        self.buckets = 1 + size // _PICTURES_A_BUCKET + texts // _TEXTS_A_BUCKET

    def run(self) -> dict[str, Any]:
        self._facts()
        self._texts()
        self._join()
        return self._shards()

    def _stage(self, name: str, function: str, tasks: Sequence[dict[str, Any]]) -> Stage:
        """Run a stage's tasks and add up what they say."""
        rows, done, before = 0, 0, 0
        counts: collections.Counter[str] = collections.Counter()
        at_a_time = self.config.tasks or os.cpu_count() or 1
        given = [{**task, "config": self.text} for task in tasks]
        for told in engine.run(function, given, at_a_time=at_a_time):
            answer = Answer(**told)
            rows, done, before = rows + answer.rows, done + 1, before + answer.done_before
            counts.update(answer.counts)
            self.progress(name, done, len(tasks), counts)
        stage = Stage(
            name=name, rows=rows, counts=dict(counts), tasks=len(tasks), done_before=before
        )
        self.stages.append(stage)
        return stage

    def _table(self, kind: str, number: int) -> str:
        return str(self.work / kind / f"{number:05d}.parquet")

    def _tables(self, kind: str, count: int) -> list[str]:
        return [self._table(kind, number) for number in range(count)]

    def _facts(self) -> None:
        stage = self._stage(
            "pictures",
            "kmm_jax.corpus.facts:run",
            [
                {
                    "file": file,
                    "number": number,
                    "source": source,
                    "buckets": self.buckets,
                    "facts": self._table("facts", number),
                    "keys": self._table("keys", number),
                }
                for number, (source, file) in enumerate(self.pictures)
            ],
        )
        _balanced(stage, stage.rows)

    def _texts(self) -> None:
        for kind, files in (("documents", self.documents), ("clicks", self.clicks)):
            self._stage(
                kind,
                "kmm_jax.corpus.texts:run",
                [
                    {
                        "file": file,
                        "kind": kind,
                        "source": source,
                        "buckets": self.buckets,
                        "write": self._table(kind, number),
                    }
                    for number, (source, file) in enumerate(files)
                ],
            )

    def _join(self) -> None:
        buckets, numbers = self.buckets, range(self.buckets)
        pictures = self._tables("keys", len(self.pictures))
        joined = self._stage(
            "join",
            "kmm_jax.corpus.join:join",
            [
                {
                    "bucket": number,
                    "buckets": buckets,
                    "pictures": pictures,
                    "documents": self._tables("documents", len(self.documents)),
                    "clicks": self._tables("clicks", len(self.clicks)),
                    "write": self._table("joined", number),
                }
                for number in numbers
            ],
        )
        merged = self._stage(
            "merge",
            "kmm_jax.corpus.join:merge",
            [
                {
                    "bucket": number,
                    "buckets": buckets,
                    "joined": self._tables("joined", buckets),
                    "bands": self._table("bands", number),
                    "write": self._table("merged", number),
                }
                for number in numbers
            ],
        )
        _balanced(merged, joined.rows)
        self._near()
        chosen = self._stage(
            "choose",
            "kmm_jax.corpus.join:choose",
            [
                {
                    "bucket": number,
                    "files": len(self.pictures),
                    "merged": self._table("merged", number),
                    "dropped": self._table("dropped", 0),
                    "write": self._table("chosen", number),
                }
                for number in numbers
            ],
        )
        _balanced(chosen, merged.counts.get("kept", 0))

    def _near(self) -> None:
        pairs: Iterator[dict[str, Any]] = iter(())
        if self.config.duplicates.bits is not None:
            self._stage(
                "near",
                "kmm_jax.corpus.join:near",
                [
                    {
                        "bucket": number,
                        "bands_of": self._tables("bands", self.buckets),
                        "write": self._table("near", number),
                    }
                    for number in range(self.buckets)
                ],
            )
            pairs = (
                pair
                for path in self._tables("near", self.buckets)
                for pair in tables.group(Path(path), 0)
            )
        gone = sorted(join.near_duplicates(pairs).items())
        rows = [{"worse": worse, "better": better} for worse, better in gone]
        about = {"fingerprint": tables.digest(gone)}
        tables.write(
            Path(self._table("dropped", 0)),
            join.DROPPED,
            spread(rows, "worse", self.buckets),
            lambda: about,
        )

    def _shards(self) -> dict[str, Any]:
        config = self.config
        chosen = self._tables("chosen", self.buckets)
        each = [sum(counts) for counts in zip(*map(_group_rows, chosen), strict=True)]
        planned = list(_plan(each, config.shard_rows))
        marks = [tables.about(Path(path))["fingerprint"] for path in chosen]
        mark = tables.digest([marks, config.shard_rows, config.prefix, settings(config)])
        building = self.folder / ".building"
        marked = building / "mark"
        if not marked.exists() or marked.read_text() != mark:
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            marked.write_text(mark)
        names = [f"{config.prefix}-{number:03d}.tar" for number in range(len(planned))]
        final = self.folder / "shards"
        if _manifest(final).get("mark") == mark:
            shutil.rmtree(building)
            return _manifest(final)
        stage = self._stage(
            "shards",
            "kmm_jax.corpus.shards:run",
            [
                {
                    "parts": [
                        {
                            "file": self.pictures[number][1],
                            "source": self.pictures[number][0],
                            "number": number,
                            "first": first,
                            "last": last,
                        }
                        for number, first, last in parts
                    ],
                    "chosen": chosen,
                    "write": str(building / "shards" / name),
                    "done": str(building / f"{name}.done"),
                }
                for name, parts in zip(names, planned, strict=True)
            ],
        )
        _balanced(stage, sum(each))
        return self._show(building / "shards", final, names, mark)

    def _show(self, built: Path, final: Path, names: Sequence[str], mark: str) -> dict[str, Any]:
        """Put the whole set of shards in its place, the manifest in it."""
        built.mkdir(exist_ok=True)
        listed = []
        for name in names:
            sha256, size = shards.digest(built / name)
            listed.append({"name": name, "bytes": size, "sha256": sha256})
        manifest = {
            "format": FORMAT,
            "name": self.config.name,
            "mark": mark,
            "rows": self.stages[-1].rows,
            "shards": listed,
            "stages": [
                {
                    "name": stage.name,
                    "rows": stage.rows,
                    "counts": dict(sorted(stage.counts.items())),
                }
                for stage in self.stages
            ],
            "inputs": [
                {"file": file, "bytes": stamp(file)[0]}
                for _, file in (*self.pictures, *self.documents, *self.clicks)
            ],
            "config": dump.to_json(self.config),
        }
        write_json(built / "manifest.json", manifest)
        aside = final.with_name(".shards.old")
        shutil.rmtree(aside, ignore_errors=True)
        if final.exists():
            final.rename(aside)
        built.rename(final)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(built.parent)
        return manifest


def _files(sources: Sequence[Any]) -> list[tuple[int, str]]:
    """(source, file) of every file, in the order of their names."""
    return [
        (number, str(file))
        for number, source in enumerate(sources)
        for file in sorted(map(str, expand(source.url)))
    ]


def _group_rows(path: str) -> list[int]:
    return tables.group_rows(Path(path))


def _plan(each: Sequence[int], shard_rows: int) -> Iterator[list[tuple[int, int, int]]]:
    """The (file, first row, last row) that each shard is made of, from the rows in each file."""
    parts: list[tuple[int, int, int]] = []
    room = shard_rows
    for number, count in enumerate(each):
        first = 0
        while first < count:
            last = min(count, first + room)
            parts.append((number, first, last))
            room -= last - first
            first = last
            if room == 0:
                yield parts
                parts, room = [], shard_rows
    if parts:
        yield parts


def _manifest(final: Path) -> dict[str, Any]:
    try:
        found = json.loads((final / "manifest.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _balanced(stage: Stage, rows: int) -> None:
    """Every row that went in was kept or rejected for a reason."""
    if sum(stage.counts.values()) != rows:
        raise DataError(
            f"stage {stage.name}: {rows:,} rows went in, {sum(stage.counts.values()):,} came out "
            f"({stage.counts}); delete the work folder and build again"
        )
