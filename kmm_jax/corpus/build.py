"""The whole pipeline: stages in order, counts added up, shards shown once all are whole.

FOLDER/work/listings/                      of loose pictures, each a file for what follows
FOLDER/work/facts,keys,beside,documents,clicks,products/   a table for each file read
FOLDER/work/joined,merged,bands,near,chosen/   a table for each bucket
FOLDER/work/scored,judged/                     a table for each file of pictures
FOLDER/purged.txt                          pictures that are taken up no more, if any were purged
FOLDER/shards/        train-000.tar ..., manifest.json and the data card, whole or absent
FOLDER/report.html                         what was done, to be looked at
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.corpus import engine, join, judge, shards, sources, tables, texts, worker
from kmm_jax.corpus.config import CorpusConfig, Images
from kmm_jax.corpus.funnel import Before
from kmm_jax.corpus.jobs import Answer, config_text, spread
from kmm_jax.corpus.purge import hashes
from kmm_jax.corpus.report import card, layout, measured
from kmm_jax.corpus.report.write import write_page
from kmm_jax.corpus.text_tables import ColumnError
from kmm_jax.data.storage import stamp
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.files import locked, read_json, write_json
from kmm_jax.training import dump

FORMAT = "kmm_jax corpus 1"

# Bytes of input for a bucket: its rows, without pictures, take some hundred megabytes of memory.
_PICTURES_A_BUCKET = 4 << 30
_TEXTS_A_BUCKET = 256 << 20
# Up to so many buckets are made already of less, so that processes share the work and memory stays.
_FEW_BUCKETS, _PICTURES_OF_FEW = 16, 256 << 20


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


Progress = Callable[[str, int, int, Mapping[str, int], Before], None]


def build(
    config: CorpusConfig,
    folder: Path,
    progress: Progress = lambda *_: None,
    *,
    cluster: str | None = None,
    report: bool = True,
) -> dict[str, Any]:
    """Build the corpus in ``folder``, or what is left to be done of it; returns the manifest.

    Args:
        progress: told the stage's name, tasks done, tasks in all, counts so far, and what of it
            an earlier build did.
        cluster: address of a Ray cluster that does the work (see ``cluster.Cluster``), which leaves
            ``work/nodes.json``, the tasks that each node did; None works on this machine.
        report: also write ``report.html``.

    Raises:
        DataError: an input cannot be read, or lacks a column; a node of the cluster cannot see it.
        ConfigError: the extra ``corpus`` is not installed, or there is no such cluster.
        UserError: another process builds in the folder.
    """
    if absent := worker.missing():
        raise ConfigError(
            f"building a corpus needs {', '.join(absent)}: pip install 'kmm-jax[corpus]'"
        )
    with locked(folder / ".lock", "a corpus is being built here"):
        building = _Build(config, folder, progress)
        with building.start(cluster) as building.workers:
            return building.run(report)


class _Build:
    workers: engine.Engine

    def __init__(self, config: CorpusConfig, folder: Path, progress: Progress) -> None:
        self.config, self.folder, self.progress = config, folder, progress
        self.work = folder / "work"
        self.text = config_text(config)
        self.stages: list[Stage] = []
        self.pictures = _pictures(config.images, self.work / "listings")
        self.documents, self.clicks = _files(config.documents), _files(config.clicks)
        self.products = _files(config.products)
        self.tables = (*self.documents, *self.clicks, *self.products)
        size = sum(sources.shown(file)[1] for _, file in self.pictures)
        texts = sum(stamp(file)[0] for _, file in self.tables)
        few = min(_FEW_BUCKETS - 1, size // _PICTURES_OF_FEW)
        self.buckets = 1 + max(few, size // _PICTURES_A_BUCKET + texts // _TEXTS_A_BUCKET)

    def run(self, report: bool) -> dict[str, Any]:
        self._try_inputs()
        identities = self._identities()
        self._read()
        self._join()
        self._scores(identities)
        files = {
            "pictures": self.pictures,
            "documents": self.documents,
            "clicks": self.clicks,
            "products": self.products,
        }
        found = layout.write(self.work, self.buckets, files)
        self.measured = measured.measure(self.config, found)
        manifest = self._shards()
        if report:
            write_page(self.config, self.folder, found, self.measured)
        return manifest

    @contextlib.contextmanager
    def start(self, cluster: str | None) -> Iterator[engine.Engine]:
        """What runs the tasks, while the block runs."""
        _sweep(self.folder)
        if cluster is None:
            with engine.Local(self.config.tasks or os.cpu_count() or 1) as local:
                yield local
            return
        from kmm_jax.corpus.cluster import Cluster

        kinds = (self.pictures, self.documents, self.clicks, self.products)
        inputs = [files[0][1] for files in kinds if files]
        nodes = Cluster(cluster, self.folder, inputs, at_a_time=self.config.tasks)
        yield nodes
        write_json(self.work / "nodes.json", dict(sorted(nodes.nodes.items())))

    def _stage(self, name: str, function: str, tasks: Sequence[dict[str, Any]]) -> Stage:
        """Run a stage's tasks and add up what they say."""
        return self._stages([(name, function, tasks)])[0]

    def _stages(self, named: Sequence[tuple[str, str, Sequence[dict[str, Any]]]]) -> list[Stage]:
        """Stages that need nothing of each other, run as one: none waits for another's last task.

        Their progress is told in their order all the same.
        """
        places = [place for place, (_, _, tasks) in enumerate(named) for _ in tasks]
        given = [
            (function, {**task, "config": self.text})
            for _, function, tasks in named
            for task in tasks
        ]
        rows, done, before, rows_before = ([0] * len(named) for _ in range(4))
        counts: list[collections.Counter[str]] = [collections.Counter() for _ in named]
        shown = 0
        if named[0][2]:
            self.progress(named[0][0], 0, len(named[0][2]), {}, Before(0, 0))
        for number, told in self.workers.run(given):
            answer, place = Answer(**told), places[number]
            rows[place], done[place] = rows[place] + answer.rows, done[place] + 1
            before[place] += answer.done_before
            rows_before[place] += answer.done_before * sum(answer.counts.values())
            counts[place].update(answer.counts)
            tell = place == shown
            while True:
                name, _, tasks = named[shown]
                if tell and done[shown]:
                    earlier = Before(before[shown], rows_before[shown])
                    self.progress(name, done[shown], len(tasks), counts[shown], earlier)
                if done[shown] < len(tasks) or shown == len(named) - 1:
                    break
                shown, tell = shown + 1, True
        stages = [
            Stage(
                name=name,
                rows=rows[place],
                counts=dict(counts[place]),
                tasks=len(tasks),
                done_before=before[place],
            )
            for place, (name, _, tasks) in enumerate(named)
        ]
        self.stages += stages
        return stages

    def _table(self, kind: str, number: int) -> str:
        return str(self.work / kind / f"{number:05d}.parquet")

    def _tables(self, kind: str, count: int) -> list[str]:
        return [self._table(kind, number) for number in range(count)]

    def _read(self) -> None:
        """All that reads input files, then what the pictures' own files say of them."""
        pictures = [
            {
                "file": file,
                "number": number,
                "source": source,
                "buckets": self.buckets,
                "facts": self._table("facts", number),
                "keys": self._table("keys", number),
            }
            for number, (source, file) in enumerate(self.pictures)
        ]
        texts = [
            (
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
            for kind, files in (
                ("documents", self.documents),
                ("clicks", self.clicks),
                ("products", self.products),
            )
        ]
        stage, *_ = self._stages([("pictures", "kmm_jax.corpus.facts:run", pictures), *texts])
        _balanced(stage, stage.rows)
        beside = [
            {"keys": keys, "buckets": self.buckets, "write": self._table("beside", number)}
            for number, keys in enumerate(self._tables("keys", len(self.pictures)))
        ]
        self._stage("beside", "kmm_jax.corpus.texts:beside_pictures", beside)

    def _join(self) -> None:
        buckets, numbers = self.buckets, range(self.buckets)
        pictures = self._tables("beside", len(self.pictures))
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
                    "products": self._tables("products", len(self.products)),
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
                    "purged": str(self.folder / hashes.LIST),
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

    def _try_inputs(self) -> None:
        """The first row of each source: a wrong column shows now, not after all the pictures.

        A file that is damaged is its task's to name, when the other files' work is done.
        """
        config = self.config
        seen: set[tuple[str, int]] = set()
        kinds = (
            ("documents", self.documents),
            ("clicks", self.clicks),
            ("products", self.products),
        )
        for number, file in self.pictures:
            if ("images", number) not in seen:
                _first(sources.pictures(config.images[number], file))
            seen.add(("images", number))
        for kind, files in kinds:
            for number, file in files:
                if (kind, number) not in seen:
                    wanted = texts.columns_of(getattr(config, kind)[number])
                    _first(sources.rows(file, wanted))
                seen.add((kind, number))

    def _identities(self) -> dict[str, str]:
        """What the scores' values depend on; asked first, so that a missing model shows at once."""
        if not self.config.scores:
            return {}
        task = ("kmm_jax.corpus.scores:identities", {"config": self.text})
        ((_, found),) = self.workers.run([task])
        return dict(found)

    def _scores(self, identities: Mapping[str, str]) -> None:
        """Score what was chosen, then judge it by the scores."""
        numbers = range(len(self.pictures))
        self._follow_files()
        scored = self._stage(
            "scores",
            "kmm_jax.corpus.scores:run",
            [
                {
                    "file": self.pictures[number][1],
                    "source": self.pictures[number][0],
                    "number": number,
                    "chosen": self._tables("chosen", self.buckets),
                    "identities": identities,
                    "write": self._table("scored", number),
                }
                for number in numbers
            ],
        )
        judged = self._stage(
            "judge",
            "kmm_jax.corpus.judge:run",
            [
                {"scored": self._table("scored", number), "write": self._table("judged", number)}
                for number in numbers
            ],
        )
        _balanced(judged, scored.rows)

    def _follow_files(self) -> None:
        """Give each file's scores its number of now: a file in front of others moves them all.

        What is taken over is looked up by picture, so that a mistake here costs time and no more.
        """
        noted = self.work / "scored" / "files.json"
        before, now = read_json(noted) or [], [file for _, file in self.pictures]
        if before == now:
            return
        number_of = {file: number for number, file in enumerate(now)}
        moved = {}
        for number, file in enumerate(before):
            path = Path(self._table("scored", number))
            if number_of.get(file, number) != number and path.exists():
                moved[path.rename(path.with_suffix(".moved"))] = number_of[file]
        for path, number in moved.items():
            path.rename(self._table("scored", number))
        noted.parent.mkdir(parents=True, exist_ok=True)
        write_json(noted, now)

    def _shards(self) -> dict[str, Any]:
        config = self.config
        judged = self._tables("judged", len(self.pictures))
        each = [tables.group_rows(Path(path))[judge.KEPT] for path in judged]
        planned = list(_plan(each, config.shard_rows))
        marks = [tables.about(Path(path))["fingerprint"] for path in judged]
        columns = [list(score.columns()) for score in config.scores]
        mark = tables.digest([shards.VERSION, marks, config.shard_rows, config.prefix, columns])
        building = self.folder / ".building"
        marked = building / "mark"
        if not marked.exists() or marked.read_text() != mark:
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            marked.write_text(mark)
        names = [f"{config.prefix}-{number:03d}.tar" for number in range(len(planned))]
        final = self.folder / "shards"
        if _manifest(final).get("mark") == mark and _whole(final):
            shutil.rmtree(building)
            return self._describe(final)
        stage = self._stage(
            "shards",
            "kmm_jax.corpus.shards:run",
            [
                {
                    "parts": [
                        {
                            "file": self.pictures[number][1],
                            "source": self.pictures[number][0],
                            "judged": judged[number],
                            "first": first,
                            "last": last,
                        }
                        for number, first, last in parts
                    ],
                    "write": str(building / "shards" / name),
                    "done": str(building / f"{name}.done"),
                }
                for name, parts in zip(names, planned, strict=True)
            ],
        )
        _balanced(stage, sum(each))
        return self._show(building / "shards", final, names, mark)

    def _show(self, built: Path, final: Path, names: Sequence[str], mark: str) -> dict[str, Any]:
        """Put the whole set of shards in its place, the manifest in it.

        Raises:
            DataError: nothing was kept, and there are shards that would give way to nothing.
        """
        if not names and _manifest(final).get("shards"):
            reasons = collections.Counter[str]()
            for stage in self.stages:
                reasons.update({r: n for r, n in stage.counts.items() if r != "kept"})
            most = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(3))
            raise DataError(
                f"no picture was kept ({most}), so the shards of the last build stay as they are. "
                "If the keys of pictures and texts do not match, name their columns "
                "(documents.0.key=...); to be rid of the shards, delete them"
            )
        built.mkdir(exist_ok=True)
        listed = [{"name": name, **shards.about(built.parent / f"{name}.done")} for name in names]
        manifest = {
            "format": FORMAT,
            "name": self.config.name,
            "mark": mark,
            "rows": self.stages[-1].rows,
            "shards": listed,
            **self._account(),
        }
        if purged := _manifest(final).get("purged"):  # the receipts of earlier purges
            manifest["purged"] = purged
        write_json(built / "manifest.json", manifest)
        card.write(self.config, built, manifest, self.measured)
        aside = final.with_name(".shards.old")
        shutil.rmtree(aside, ignore_errors=True)
        if final.exists():
            final.rename(aside)
        built.rename(final)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(built.parent)
        return manifest

    def _describe(self, final: Path) -> dict[str, Any]:
        """Of shards that stay as they are, bring up to date what is said of them.

        Another licence, or a text that was rejected as the others were, changes no shard.
        """
        before = _manifest(final)
        account = self._account()
        account["stages"] += [stage for stage in before["stages"] if stage["name"] == "shards"]
        manifest = before | account
        if manifest != before or not all((final / name).exists() for name in card.NAMES):
            write_json(final / "manifest.json", manifest)
            card.write(self.config, final, manifest, self.measured)
        return manifest

    def _account(self) -> dict[str, Any]:
        """What the manifest says of the stages, the inputs and the config."""
        return {
            "stages": [
                {
                    "name": stage.name,
                    "rows": stage.rows,
                    "counts": dict(sorted(stage.counts.items())),
                }
                for stage in self.stages
            ],
            "inputs": [
                {"file": name, "bytes": size}
                for name, size in (
                    *(sources.shown(file) for _, file in self.pictures),
                    *((file, stamp(file)[0]) for _, file in self.tables),
                )
            ],
            "config": dump.to_json(self.config),
        }


def _pictures(images: Sequence[Images], listings: Path) -> list[tuple[int, str]]:
    """(source, file) of every file of pictures."""
    return [
        (number, file)
        for number, source in enumerate(images)
        for file in sources.files(source.url, listings / str(number))
    ]


def _files(of: Sequence[Any]) -> list[tuple[int, str]]:
    """(source, file) of every file, in the order of their names."""
    return [
        (number, str(file))
        for number, source in enumerate(of)
        for file in sources.table_files(source.url)
    ]


def _first(rows: Iterator[Any]) -> None:
    """Raise ColumnError if the columns that are asked for are not there."""
    try:
        next(rows, None)
    except ColumnError:
        raise
    except DataError:
        return


def _whole(final: Path) -> bool:
    """Whether every shard that the manifest lists is there with all of its bytes."""
    try:
        return all(
            (final / shard["name"]).stat().st_size == shard["bytes"]
            for shard in _manifest(final)["shards"]
        )
    except OSError:
        return False


def _sweep(folder: Path) -> None:
    """Remove what killed processes were writing; no other is at work here."""
    # Killed between the two renames: the old shards, with their receipts, are what there is.
    aside = folder / ".shards.old"
    if aside.exists() and not (folder / "shards").exists():
        aside.rename(folder / "shards")
    for left in (*folder.glob("work/*/.*.tmp"), *folder.glob(".building/**/.*.tmp")):
        left.unlink(missing_ok=True)


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
    found = read_json(final / "manifest.json")
    return found if isinstance(found, dict) else {}


def _balanced(stage: Stage, rows: int) -> None:
    """Every row that went in was kept or rejected for a reason."""
    if sum(stage.counts.values()) != rows:
        raise DataError(
            f"stage {stage.name}: {rows:,} rows went in, {sum(stage.counts.values()):,} came out "
            f"({stage.counts}); delete the work folder and build again"
        )
