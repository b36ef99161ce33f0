"""An index that grows: rows are added, replaced and deleted while others search.

A folder of immutable segments, each an index of its own with columns beside it, and a manifest that
names those that count and the rows of them that are gone, as log-structured stores have it (O'Neil
et al., 1996). A change writes new files, and counts when the new manifest takes the old one's name:
killed at any moment, the collection is as before or as after.

    collection.json   segments/000003-0/{index/, columns.parquet}   gone/000004-000003-0.npy
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import atomic_write, locked, refuse_other, write_json
from kmm_jax.retrieval import checksums, index_files
from kmm_jax.retrieval.filters import Where
from kmm_jax.retrieval.segment import Segment, best, load_segment, write_segment
from kmm_jax.retrieval.settings import Engine, IndexSettings
from kmm_jax.retrieval.vectors import unit_rows

MANIFEST = "collection.json"
FORMAT = "kmm_jax collection 1"
_ID = "id"
_SEGMENTS, _GONE, _LOCK = "segments", "gone", ".writing"

# Segments of alike size are joined once there are so many: each row is then written again a number
# of times that grows with the logarithm of the collection.
_ALIKE = 8
_SMALLEST = 1_000
_JOINED_AT_ONCE = 200_000  # larger ones wait for `compact`, which may take its time
_GONE_SHARE = 0.3  # a segment with more of its rows gone is written again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found: for each of Q queries, the best first, fewer where fewer may be found.

    Attributes:
        ids: Q lists of at most k ids.
        scores: Q arrays of their cosine similarities, float32.
    """

    ids: list[list[str]]
    scores: list[np.ndarray]


class Collection:
    """Vectors with ids and columns, searched by cosine similarity and changed in place.

    Searches see the collection as it was when it was opened, changed here, or `refresh` was called
    last. One process changes it at a time, any number search.

    Attributes:
        folder: where it is.
        version: of its manifest, one more with every change.
        model_hash, dim: of the vectors.
        metadata: notes that :meth:`create` was given.
    """

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], segments: list[Segment], engine: Engine
    ) -> None:
        self.folder = folder
        self._engine = engine
        self._take(manifest, segments)

    def _take(self, manifest: Mapping[str, Any], segments: list[Segment]) -> None:
        """Become what a manifest says."""
        self._manifest = dict(manifest)
        self.version: int = manifest["version"]
        self.model_hash: str = manifest["model_hash"]
        self.dim: int = manifest["dim"]
        self.metadata: dict[str, Any] = dict(manifest["metadata"])
        self._settings = IndexSettings(**manifest["settings"])
        self._segments = _aligned(segments)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        model_hash: str,
        dim: int,
        settings: IndexSettings | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Collection:
        """Make an empty collection.

        Args:
            model_hash: of the model that will compute the vectors.
            dim: of the vectors.
            settings: of each segment's index; what is not said is chosen by its size.
            metadata: notes to keep; JSON values.

        Raises:
            UserError: there is something in the folder already.
        """
        folder = Path(folder).resolve()
        refuse_other(folder, lambda _: False, "empty folder for a collection")
        if dim < 1:
            raise UserError(f"dim must be at least 1, found {dim}")
        manifest = {
            "format": FORMAT,
            "version": 0,
            "model_hash": model_hash,
            "dim": dim,
            "settings": dataclasses.asdict(settings or IndexSettings()),
            "metadata": dict(metadata or {}),
            "segments": [],
        }
        write_json(folder / MANIFEST, checksums.sealed(manifest))
        return cls.open(folder)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        model_hash: str | None = None,
        engine: Engine = "auto",
    ) -> Collection:
        """Open a collection; its vectors are memory-mapped.

        Args:
            model_hash: of the model that queries will come from, to be checked.
            engine: to search its segments with.

        Raises:
            DataError: no collection, or a file of it that is missing or damaged.
            UserError: it belongs to another model, or the engine does not run here.
        """
        folder = Path(folder).resolve()
        manifest, segments = _loaded(folder, engine, {})
        found = cls(folder, manifest, segments, engine)
        if model_hash is not None:
            found.check_model(model_hash)
        return found

    def __len__(self) -> int:
        return sum(segment.alive for segment in self._segments)

    def __contains__(self, id: str) -> bool:
        return any(segment.find(id) is not None for segment in self._segments)

    def check_model(self, model_hash: str) -> None:
        """Refuse vectors of another model.

        Raises:
            UserError: the collection was made for a model of another hash.
        """
        if self.model_hash != model_hash:
            raise UserError(
                f"{self.folder} holds vectors of the model {self.model_hash!r}, these come from "
                f"{model_hash!r}; search with the model that made it"
            )

    def refresh(self) -> bool:
        """See what other processes changed; whether anything did."""
        if _read_manifest(self.folder)["version"] == self.version:
            return False
        self._take(*_loaded(self.folder, self._engine, self._by_name()))
        return True

    def search(self, queries: np.ndarray, k: int = 10, *, where: Where | None = None) -> Found:
        """The ``k`` nearest of each query among the rows for which ``where`` holds.

        Args:
            queries: (Q, D), or one vector (D,).
            where: conditions on the columns, as ``retrieval.filters`` describes them.

        Raises:
            DataError: queries of another dimension, zero or not finite.
            UserError: ``k`` below 1, or a filter that does not fit the columns.
        """
        if k < 1:
            raise UserError(f"k must be at least 1, found {k}")
        queries_QD = unit_rows(np.atleast_2d(np.asarray(queries)), "query")
        if queries_QD.shape[1] != self.dim:
            raise DataError(
                f"the queries have {queries_QD.shape[1]} dimensions, the collection {self.dim}; "
                "they must come from the model that it was made with"
            )
        segments = self._segments  # another thread may refresh meanwhile
        starts = np.cumsum([0, *(len(segment.index) for segment in segments)])
        keys = np.zeros((len(queries_QD), 0), np.int64)
        scores = np.zeros((len(queries_QD), 0), np.float32)
        for segment, start in zip(segments, starts, strict=False):
            rows, found = segment.search(queries_QD, k, where)
            keys = np.concatenate([keys, rows + start], axis=1)
            scores = np.concatenate([scores, found.astype(np.float32)], axis=1)
        keys, scores = best(keys, scores, k)

        def id_of(key: int) -> str:
            place = int(np.searchsorted(starts, key, side="right")) - 1
            return segments[place].index.ids[key - int(starts[place])]

        return Found(ids=[[id_of(int(key)) for key in each] for each in keys], scores=list(scores))

    def ids(self, *, where: Where | None = None) -> list[str]:
        """The ids of all rows for which ``where`` holds.

        Raises:
            UserError: a filter that does not fit the columns.
        """
        return [segment.index.ids[row] for segment in self._segments for row in segment.rows(where)]

    def columns(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """What the columns say of each id, the id first; what was not said is None.

        Raises:
            UserError: no such id.
        """
        return [segment.columns.slice(row, 1).to_pylist()[0] for segment, row in map(self._at, ids)]

    def vector(self, id: str) -> np.ndarray:
        """The unit vector (D,), float32, of an id.

        Raises:
            UserError: no such id.
        """
        segment, row = self._at(id)
        return segment.index.vectors_of(np.asarray([row]))[0]

    def facet(self, column: str, *, where: Where | None = None) -> dict[Any, int]:
        """How many rows have each value of a column, of a list each of its values, most first.

        Raises:
            UserError: no such column, or a filter that does not fit.
        """
        import collections

        counts: collections.Counter[Any] = collections.Counter()
        for segment in self._segments:
            if column not in segment.columns.column_names:
                raise UserError(
                    f"no column {column!r}; there are {', '.join(segment.columns.column_names)}"
                )
            values = segment.columns.column(column).take(segment.rows(where)).to_pylist()
            for value in values:
                counts.update(value if isinstance(value, list) else [value])
        counts.pop(None, None)
        return dict(counts.most_common())

    def put(
        self,
        ids: Sequence[str],
        vectors: np.ndarray,
        columns: Mapping[str, Sequence[Any]] | pa.Table | None = None,
    ) -> int:
        """Add rows; those whose id is there take its place.

        Args:
            ids: N different texts.
            vectors: (N, D); brought to length 1.
            columns: values of each row by name, of any type that Arrow has, but for ``id``. A
                column may be new, rows without it have none; one that is there keeps its type.

        Returns:
            How many took the place of others.

        Raises:
            DataError: ids, vectors and columns that do not fit each other or the collection.
            UserError: another process is changing it.
        """
        ids = index_files.checked_ids(ids, len(vectors))
        if np.ndim(vectors) != 2 or np.shape(vectors)[1] != self.dim:
            raise DataError(
                f"vectors have shape {np.shape(vectors)}, the collection takes (rows, {self.dim})"
            )
        table = _table(columns, ids)
        with self._writing() as change:
            _unified([*(segment.columns.schema for segment in change.segments), table.schema])
            replaced = change.remove(ids)
            change.add(ids, vectors, table)
            change.join_alike()
        return replaced

    def delete(self, ids: Iterable[str], *, erase: bool = False) -> int:
        """Take rows out; ids that are not there are passed over. Says how many were.

        Args:
            erase: from the disk too, at once; else they leave it when their segment is next
                written.

        Raises:
            UserError: another process is changing it.
        """
        with self._writing() as change:
            count = change.remove(ids)
            if erase:
                change.rewrite([each for each in change.segments if len(each.gone)])
        return count

    def erase(self, is_gone: Callable[[str], bool], note: Mapping[str, Any]) -> int:
        """Take rows whose id is so out of it and off the disk, deleted ones too.

        Args:
            note: kept in the metadata under ``purged``.

        Raises:
            UserError: another process is changing it.
        """
        with self._writing() as change:
            marked = [each for each in change.segments if any(is_gone(id) for id in each.index.ids)]
            count = change.remove(id for each in marked for id in each.index.ids if is_gone(id))
            names = {each.name for each in marked}
            change.rewrite([each for each in change.segments if each.name in names])
            change.note(note)
        return count

    def tidy(self) -> None:
        """Remove from the disk what a killed change left, which counts for nothing.

        Raises:
            UserError: another process is changing it.
        """
        with self._writing():
            pass

    def on_disk(self) -> dict[Path, list[str]]:
        """The ids in each segment's file of them, deleted ones that are still there too."""
        return {
            segment.index.folder / index_files.IDS: segment.index.ids for segment in self._segments
        }

    def compact(self) -> None:
        """Join all segments into one, without what is gone: fewer to search, and less on disk.

        Raises:
            UserError: another process is changing it.
        """
        with self._writing() as change:
            if len(change.segments) > 1 or any(len(each.gone) for each in change.segments):
                change.join(change.segments)

    def info(self) -> dict[str, Any]:
        """What it holds and how it searches, as JSON values."""
        schema = self._segments[0].columns.schema if self._segments else pa.schema([])
        return {
            "folder": str(self.folder),
            "version": self.version,
            "rows": len(self),
            "dim": self.dim,
            "model_hash": self.model_hash,
            "columns": {field.name: str(field.type) for field in schema},
            "settings": dataclasses.asdict(self._settings),
            "metadata": self.metadata,
            "segments": [
                {
                    "name": segment.name,
                    "rows": segment.alive,
                    "gone": len(segment.gone),
                    "engine": segment.index.info()["engine"],
                    "recall@10": about.get("recall@10"),
                }
                for segment, about in zip(self._segments, self._manifest["segments"], strict=True)
            ],
        }

    def _at(self, id: str) -> tuple[Segment, int]:
        for segment in self._segments:
            row = segment.find(id)
            if row is not None:
                return segment, row
        raise UserError(f"{self.folder} holds no id {id!r} among its {len(self):,}")

    def _by_name(self) -> dict[str, Segment]:
        return {segment.name: segment for segment in self._segments}

    def _writing(self) -> _Change:
        return _Change(self)


class _Change:
    """One change of a collection: new segments and rows that are gone, counting all at once."""

    def __init__(self, collection: Collection) -> None:
        self._of = collection
        self._folder = collection.folder
        self._abouts: dict[str, dict[str, Any]] = {}
        self._lock = locked(self._folder / _LOCK, f"the collection {self._folder} is being changed")

    def __enter__(self) -> _Change:
        self._lock.__enter__()
        try:
            self._of.refresh()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        self.segments = list(self._of._segments)
        self._version = self._of.version + 1
        self._metadata = dict(self._of.metadata)
        self._abouts = {each["name"]: each for each in self._of._manifest["segments"]}
        self._made = 0
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            if kind is None and (self._made or self._gone_more() or self._noted()):
                self._commit()
            _sweep(self._folder)
        finally:
            self._lock.__exit__(None, None, None)

    def remove(self, ids: Iterable[str]) -> int:
        """Let rows be gone; says how many there were."""
        wanted = set(ids)
        count = 0
        for place, segment in enumerate(self.segments):
            rows = [row for each in wanted if (row := segment.find(each)) is not None]
            if rows:
                self.segments[place] = segment.without(rows)
                count += len(rows)
        self.segments = [segment for segment in self.segments if segment.alive]
        return count

    def add(self, ids: Sequence[str], vectors: Any, columns: pa.Table) -> None:
        """Write a segment, which counts once the change is whole."""
        name = f"{self._version:06d}-{self._made}"
        self._made += 1
        folder = self._folder / _SEGMENTS / name
        of = self._of
        about = write_segment(
            folder, ids, vectors, columns, model_hash=of.model_hash, settings=of._settings
        )
        gone = np.zeros(0, np.int64)
        self._abouts[name] = {"name": name, **about}
        self.segments.append(
            load_segment(folder, about, model_hash=of.model_hash, engine=of._engine, gone=gone)
        )

    def join(self, segments: Sequence[Segment]) -> None:
        """One segment in the place of some."""
        segments = _aligned(list(segments))
        alive = [segment.rows(None) for segment in segments]
        names = {segment.name for segment in segments}
        self.segments = [each for each in self.segments if each.name not in names]
        if not sum(map(len, alive)):
            return
        ids = [
            segment.index.ids[row]
            for segment, rows in zip(segments, alive, strict=True)
            for row in rows
        ]
        tables = [segment.columns.take(rows) for segment, rows in zip(segments, alive, strict=True)]
        vectors = _Joined([segment.index for segment in segments], alive, self._of.dim)
        self.add(ids, vectors, pa.concat_tables(tables))

    def rewrite(self, segments: Sequence[Segment]) -> None:
        """Each segment anew, without what is gone."""
        for segment in segments:
            self.join([segment])

    def note(self, note: Mapping[str, Any]) -> None:
        """Keep a note of what is being purged."""
        before = list(self._metadata.get("purged") or [])
        if note not in before:
            self._metadata["purged"] = [*before, dict(note)]

    def join_alike(self) -> None:
        """Join segments of alike size where there are many, and clear those that are half gone."""
        by_tier: dict[int, list[Segment]] = {}
        for segment in self.segments:
            by_tier.setdefault(_tier(segment.alive), []).append(segment)
        for alike in by_tier.values():
            if len(alike) >= _ALIKE and sum(each.alive for each in alike) <= _JOINED_AT_ONCE:
                self.join(alike)
        self.rewrite(
            [
                each
                for each in self.segments
                if len(each.gone) > _GONE_SHARE * len(each.index) and each.alive <= _JOINED_AT_ONCE
            ]
        )

    def _gone_more(self) -> bool:
        before = {segment.name: len(segment.gone) for segment in self._of._segments}
        return {segment.name: len(segment.gone) for segment in self.segments} != before

    def _noted(self) -> bool:
        return self._metadata != self._of.metadata

    def _commit(self) -> None:
        known = {segment.name: len(segment.gone) for segment in self._of._segments}
        entries = []
        for segment in self.segments:
            about = dict(self._abouts[segment.name])
            if len(segment.gone) and known.get(segment.name) != len(segment.gone):
                file = self._folder / _GONE / f"{self._version:06d}-{segment.name}.npy"
                with atomic_write(file) as opened:
                    np.save(opened, segment.gone)
                about["gone"] = {"file": file.name, **checksums.describe(file)}
            entries.append(about)
        manifest = {
            **self._of._manifest,
            "version": self._version,
            "metadata": self._metadata,
            "segments": entries,
        }
        manifest.pop("seal", None)
        write_json(self._folder / MANIFEST, checksums.sealed(manifest))
        self._of._take(manifest, self.segments)


class _Joined:
    """The vectors of several indexes behind one another, read as they are asked for."""

    ndim = 2

    def __init__(self, indexes: Sequence[Any], rows: Sequence[np.ndarray], dim: int) -> None:
        self._indexes, self._rows = indexes, rows
        self._ends = np.cumsum([len(each) for each in rows])
        self.shape = (int(self._ends[-1]), dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: slice) -> np.ndarray:
        start, stop, _ = where.indices(len(self))
        parts = [np.zeros((0, self.shape[1]), np.float32)]
        for index, rows, end in zip(self._indexes, self._rows, self._ends, strict=True):
            first = int(end) - len(rows)
            some = rows[max(0, start - first) : max(0, stop - first)]
            if len(some):
                parts.append(index.vectors_of(some))
        return np.concatenate(parts)


def is_collection(folder: Path) -> bool:
    """Whether this is a collection's folder."""
    return (folder / MANIFEST).is_file()


def _tier(rows: int) -> int:
    """Rows of one tier are alike in number: up to `_ALIKE` times as many."""
    return max(0, int(np.log(max(rows, 1) / _SMALLEST) // np.log(_ALIKE)) + 1)


def _table(columns: Mapping[str, Sequence[Any]] | pa.Table | None, ids: Sequence[str]) -> pa.Table:
    given = columns.column_names if isinstance(columns, pa.Table) else list(columns or {})
    if _ID in given:
        raise DataError(f"a column cannot be called {_ID!r}: that is the row's own id")
    names = pa.array(ids, pa.string())
    try:
        if isinstance(columns, pa.Table):
            table = columns.combine_chunks()
        else:
            found = {name: pa.array(list(each)) for name, each in (columns or {}).items()}
            table = pa.table(found) if found else pa.table({_ID: names})
        if table.num_rows != len(ids):
            raise DataError(f"columns of {table.num_rows} rows for {len(ids)} ids")
    except (pa.ArrowException, pa.ArrowTypeError, ValueError) as error:
        raise DataError(f"the columns are no table: {error}") from error
    return table if _ID in table.column_names else table.add_column(0, _ID, names)


def _unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive")
    except (pa.ArrowException, pa.ArrowTypeError) as error:
        raise DataError(f"a column has another type than in the collection: {error}") from error


def _aligned(segments: list[Segment]) -> list[Segment]:
    """Segments that all have all columns, of one type; what one does not have is null."""
    if not segments:
        return []
    schema = _unified([segment.columns.schema for segment in segments])
    aligned = []
    for segment in segments:
        columns, count = segment.columns, len(segment.index)
        if columns.schema != schema:
            columns = pa.table(
                {
                    field.name: columns.column(field.name).cast(field.type)
                    if field.name in columns.column_names
                    else pa.nulls(count, field.type)
                    for field in schema
                },
                schema=schema,
            )
            segment = Segment(segment.name, segment.index, columns, segment.gone)
        aligned.append(segment)
    return aligned


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{folder} is no collection: no {MANIFEST} there") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not a collection of this version ({FORMAT!r})")
    checksums.check_seal(path, manifest)
    return manifest


def _loaded(
    folder: Path, engine: Engine, known: Mapping[str, Segment]
) -> tuple[dict[str, Any], list[Segment]]:
    """The manifest and its segments; those already open are opened no second time."""
    manifest = _read_manifest(folder)
    while True:
        try:
            return manifest, [
                _segment(folder, about, manifest, engine, known.get(about["name"]))
                for about in manifest["segments"]
            ]
        except DataError:
            # A writer may have joined what the manifest named a moment ago.
            again = _read_manifest(folder)
            if again["version"] == manifest["version"]:
                raise
            manifest = again


def _segment(
    folder: Path,
    about: Mapping[str, Any],
    manifest: Mapping[str, Any],
    engine: Engine,
    known: Segment | None,
) -> Segment:
    gone = np.zeros(0, np.int64)
    if about.get("gone"):
        file = folder / _GONE / about["gone"]["file"]
        checksums.check(file, about["gone"])
        gone = np.load(file, allow_pickle=False)
    if known is not None and np.array_equal(known.gone, gone):
        return known
    if known is not None:
        return Segment(known.name, known.index, known.columns, gone)
    place = folder / _SEGMENTS / about["name"]
    return load_segment(
        place, dict(about), model_hash=manifest["model_hash"], engine=engine, gone=gone
    )


def _sweep(folder: Path) -> None:
    """Remove what no manifest names: of killed changes, and of segments that were joined."""
    manifest = _read_manifest(folder)
    segments = {each["name"] for each in manifest["segments"]}
    gone = {each["gone"]["file"] for each in manifest["segments"] if each.get("gone")}
    for place in _listed(folder / _SEGMENTS):
        if place.name not in segments:
            shutil.rmtree(place, ignore_errors=True)
    for file in _listed(folder / _GONE):
        if file.name not in gone:
            file.unlink(missing_ok=True)


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
