"""An index that grows: rows are added, replaced and deleted while others search.

A folder of immutable segments, each an index of its own with columns beside it, and a manifest that
names those that count and the rows of them that are gone, as log-structured stores have it (O'Neil
et al., 1996). A change writes new files, and counts when the new manifest takes the old one's name:
killed at any moment, the collection is as before or as after.

    collection.json   segments/000003-0/{index/, columns.parquet}   gone/000004-000003-0.npy
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import refuse_other, write_json
from kmm_jax.retrieval import checksums, index_files
from kmm_jax.retrieval.collection_change import Change
from kmm_jax.retrieval.collection_files import (
    BULK,
    MANIFEST,
    State,
    load_state,
    new_manifest,
    read_manifest,
    unified,
)
from kmm_jax.retrieval.filters import Where
from kmm_jax.retrieval.segment import Segment, best
from kmm_jax.retrieval.settings import Engine, IndexSettings
from kmm_jax.retrieval.vectors import unit_rows

_ID = "id"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found: for each of Q queries, the best first, fewer where fewer may be found.

    Attributes:
        ids: Q lists of at most k ids.
        scores: Q arrays of their cosine similarities, float32.
        complete: False where a part of the index did not answer and was left out.
    """

    ids: list[list[str]]
    scores: list[np.ndarray]
    complete: bool = True


class Collection:
    """Vectors with ids and columns, searched by cosine similarity and changed in place.

    Searches see the collection as it was when it was opened, changed here, or `refresh` was called
    last. One process changes it at a time, any number search.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: Path, state: State, engine: Engine) -> None:
        self.folder = folder
        self._engine = engine
        self._state = state

    @property
    def version(self) -> int:
        """Of its manifest, one more with every change."""
        return self._state.version

    @property
    def model_hash(self) -> str:
        """Of the model whose vectors these are."""
        return str(self._state.manifest["model_hash"])

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return int(self._state.manifest["dim"])

    @property
    def metadata(self) -> dict[str, Any]:
        """Notes that :meth:`create` was given."""
        return dict(self._state.manifest["metadata"])

    @property
    def bulk(self) -> dict[str, Any] | None:
        """How far its segments are built, where ``retrieval.bulk`` builds or built it."""
        return self._state.manifest.get(BULK)

    @property
    def _segments(self) -> list[Segment]:
        return self._state.segments

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
        manifest = new_manifest(
            model_hash=model_hash,
            dim=dim,
            settings=settings or IndexSettings(),
            metadata=metadata or {},
        )
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
        found = cls(folder, load_state(folder, engine, {}), engine)
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
        if read_manifest(self.folder)["version"] == self.version:
            return False
        self._state = load_state(self.folder, self._engine, self._state.by_name())
        return True

    def pinned(self) -> Collection:
        """The same as it is now: it sees no later change, and shares all that is loaded."""
        return Collection(self.folder, self._state, self._engine)

    @property
    def column_types(self) -> dict[str, str]:
        """Arrow's name of each column's type, the id first; none while it is empty."""
        schema = self._segments[0].columns.schema if self._segments else pa.schema([])
        return {field.name: str(field.type) for field in schema}

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
        if len(segments) == 1:
            rows, scores = segments[0].search(queries_QD, k, where)
            return Found(ids=segments[0].index.ids.at(rows), scores=list(scores.astype(np.float32)))
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

    def facet(
        self, column: str, *, where: Where | None = None, ids: Iterable[str] | None = None
    ) -> dict[Any, int]:
        """How many rows have each value of a column, of a list each of its values, most first.

        Args:
            ids: of the rows to count, in the place of ``where``; those that are not there are
                passed over.

        Raises:
            UserError: no such column, or a filter that does not fit.
        """
        import collections

        counts: collections.Counter[Any] = collections.Counter()
        asked = None if ids is None else list(ids)
        for segment in self._segments:
            if column not in segment.columns.column_names:
                raise UserError(
                    f"no column {column!r}; there are {', '.join(segment.columns.column_names)}"
                )
            if asked is None:
                rows = segment.rows(where)
            else:
                found = (segment.find(id) for id in asked)
                rows = np.asarray([row for row in found if row is not None], np.int64)
            values = segment.columns.column(column).take(rows).to_pylist()
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
            unified([*(segment.columns.schema for segment in change.segments), table.schema])
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

    def on_disk(self) -> dict[Path, Sequence[str]]:
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
        return {
            "folder": str(self.folder),
            "version": self.version,
            "rows": len(self),
            "dim": self.dim,
            "model_hash": self.model_hash,
            "columns": self.column_types,
            "settings": dataclasses.asdict(self._state.settings),
            "metadata": self.metadata,
            "segments": [
                {
                    "name": segment.name,
                    "rows": segment.alive,
                    "gone": len(segment.gone),
                    "engine": segment.index.info()["engine"],
                    "recall@10": about.get("recall@10"),
                }
                for segment, about in zip(
                    self._segments, self._state.manifest["segments"], strict=True
                )
            ],
        }

    def _at(self, id: str) -> tuple[Segment, int]:
        for segment in self._segments:
            row = segment.find(id)
            if row is not None:
                return segment, row
        raise UserError(f"{self.folder} holds no id {id!r} among its {len(self):,}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Change]:
        with Change(self.folder, self._state, self._engine) as change:
            yield change
        self._state = change.state


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
