"""A collection of more vectors than memory holds: its segments written one after another.

Each segment learns its partition and its hashes from a sample of its own rows, and is written and
forgotten before the next is read, so that memory stays that of one segment. The manifest names a
segment once it is whole: killed at any moment, the same call goes on after the last of them.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import locked, refuse_other, write_json
from kmm_jax.retrieval import checksums
from kmm_jax.retrieval.collection_files import (
    BULK,
    LOCK,
    MANIFEST,
    SEGMENTS,
    is_collection,
    new_manifest,
    read_manifest,
    sweep,
)
from kmm_jax.retrieval.ids import hashes_of
from kmm_jax.retrieval.segment import write_segment
from kmm_jax.retrieval.settings import IndexSettings
from kmm_jax.retrieval.size import rows_built_within

_ID = "id"
_IDS_AT_ONCE = 65_536


class Rows(Protocol):
    """Vectors with ids, which may lie on a disk: ``store_rows.StoredRows``, or `ArrayRows`."""

    shape: tuple[int, int]

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice) -> np.ndarray:
        """Vectors (n, D) of any real dtype."""
        ...

    def ids(self, start: int, stop: int) -> list[str]:
        """The ids of the rows from ``start`` to before ``stop``."""
        ...

    def release(self) -> None:
        """Let go of what was read so far, which is not needed for a while."""
        ...


class ArrayRows:
    """Rows of an array, which may be memory-mapped, and their ids."""

    def __init__(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        if len(ids) != len(vectors):
            raise DataError(f"{len(ids)} ids for {len(vectors)} vectors; each needs one id")
        self._ids, self._vectors = ids, vectors
        self.shape: tuple[int, int] = tuple(np.shape(vectors))

    def __len__(self) -> int:
        return len(self._vectors)

    def __getitem__(self, where: slice) -> np.ndarray:
        return np.asarray(self._vectors[where])

    def ids(self, start: int, stop: int) -> list[str]:
        """As `Rows` has it."""
        return list(self._ids[start:stop])

    def release(self) -> None:
        """Pages of a mapped file count as this process's memory until they are let go."""
        mapped = getattr(self._vectors, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """How far a build is.

    Attributes:
        segments: written so far, of ``of_segments``.
        rows: in them.
        before: of the segments, those that an earlier call had written.
        seconds: of this call.
    """

    segments: int
    of_segments: int
    rows: int
    before: int
    seconds: float


def build_collection(
    folder: str | os.PathLike[str],
    rows: Rows,
    *,
    model_hash: str,
    settings: IndexSettings | None = None,
    segment_rows: int | None = None,
    memory: int | None = None,
    columns: Callable[[Sequence[str]], pa.Table] | None = None,
    keep_first: bool = False,
    origin: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    progress: Callable[[Built], None] = lambda _: None,
) -> Built:
    """Make a collection of ``rows``, or go on with one that was being made of them.

    While it is being made it may be searched for what it holds, and not be changed otherwise.
    Beside a segment, 16 bytes a row are in memory while ids are compared.

    Args:
        segment_rows: of each segment, at most; by default as many as ``memory`` lets build.
        memory: bytes; by default half of what this machine has.
        columns: what there is to filter by, of the ids of one segment in their order, ``id`` not
            among them.
        keep_first: where an id stands more than once, keep its first row; else that is refused.
        origin: what the rows are made from; JSON values. Going on with another is refused.
        metadata: notes to keep; JSON values.
        progress: called after each segment.

    Raises:
        DataError: no rows, ids that stand twice, or what ``Index.build`` says of vectors.
        UserError: something else is in the folder, or another process builds there.
    """
    folder = Path(folder).resolve()
    settings = settings or IndexSettings()
    if not len(rows):
        raise DataError("there are no vectors to build a collection of")
    if segment_rows is not None and segment_rows < 1:
        raise UserError(f"segment_rows must be at least 1, found {segment_rows}")
    identity = {
        "origin": dict(origin or {}),
        "rows": len(rows),
        "keep_first": keep_first,
        "settings": dataclasses.asdict(settings),
        "model_hash": model_hash,
    }
    if not is_collection(folder):
        refuse_other(folder, _only_our_lock, "empty folder for a collection")
        fitting = segment_rows or rows_built_within(
            memory or _half_of_memory(), rows.shape[1], settings
        )
        manifest = new_manifest(
            model_hash=model_hash, dim=rows.shape[1], settings=settings, metadata=metadata or {}
        )
        manifest[BULK] = {
            "identity": identity,
            "segments": -(-len(rows) // fitting),
            "done": 0,
            "rows": 0,
        }
        write_json(folder / MANIFEST, checksums.sealed(manifest))
    with locked(folder / LOCK, f"the collection {folder} is being changed"):
        manifest = read_manifest(folder)
        _check_same(folder, manifest, identity, segment_rows, len(rows))
        sweep(folder)
        return _write_segments(folder, rows, manifest, settings, columns, progress)


def _write_segments(
    folder: Path,
    rows: Rows,
    manifest: dict[str, Any],
    settings: IndexSettings,
    columns: Callable[[Sequence[str]], pa.Table] | None,
    progress: Callable[[Built], None],
) -> Built:
    started = time.monotonic()
    bulk = manifest[BULK]
    before, total = bulk["done"], bulk["segments"]

    def built() -> Built:
        return Built(
            segments=manifest[BULK]["done"],
            of_segments=total,
            rows=manifest[BULK]["rows"],
            before=before,
            seconds=time.monotonic() - started,
        )

    if before == total:
        return built()
    dropped = _standing_again(rows, keep_first=bulk["identity"]["keep_first"])
    for number in range(before, total):
        start, stop = (len(rows) * each // total for each in (number, number + 1))
        gone = dropped[np.searchsorted(dropped, start) : np.searchsorted(dropped, stop)]
        kept = _Kept(rows, np.delete(np.arange(start, stop), gone - start))
        version = manifest["version"] + 1
        entries = list(manifest["segments"])
        if len(kept):
            name = f"{version:06d}-0"
            about = write_segment(
                folder / SEGMENTS / name,
                kept.ids(),
                kept,
                _table(kept.ids(), columns),
                model_hash=manifest["model_hash"],
                settings=settings,
            )
            entries.append({"name": name, **about})
        done = {"done": number + 1, "rows": manifest[BULK]["rows"] + len(kept)}
        manifest = {
            **manifest,
            "version": version,
            "segments": entries,
            BULK: {**manifest[BULK], **done},
        }
        manifest.pop("seal", None)
        write_json(folder / MANIFEST, checksums.sealed(manifest))
        rows.release()
        progress(built())
    return built()


class _Kept:
    """Some of the rows, in order, sliced as they are asked for."""

    ndim = 2

    def __init__(self, rows: Rows, places: np.ndarray) -> None:
        self._rows, self._places = rows, places
        self.shape = (len(places), rows.shape[1])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, where: slice) -> np.ndarray:
        places = self._places[where]
        if not len(places):
            return np.zeros((0, self.shape[1]), np.float32)
        first, last = int(places[0]), int(places[-1]) + 1
        found = self._rows[first:last]
        return found if len(found) == len(places) else found[places - first]

    def ids(self) -> list[str]:
        """Of these rows."""
        first, last = int(self._places[0]), int(self._places[-1]) + 1
        ids = self._rows.ids(first, last)
        return ids if len(ids) == len(self) else [ids[place - first] for place in self._places]


def _table(ids: Sequence[str], columns: Callable[[Sequence[str]], pa.Table] | None) -> pa.Table:
    names = pa.array(ids, pa.string())
    if columns is None:
        return pa.table({_ID: names})
    table = columns(ids)
    if _ID in table.column_names:
        raise DataError(f"a column cannot be called {_ID!r}: that is the row's own id")
    if table.num_rows != len(ids):
        raise DataError(f"columns of {table.num_rows} rows for {len(ids)} ids")
    return table.combine_chunks().add_column(0, _ID, names)


def _standing_again(rows: Rows, *, keep_first: bool) -> np.ndarray:
    """Rows int64, sorted, whose id stood before; found by hashes, of 8 bytes each.

    Raises:
        DataError: there are such, and they are not to be left out.
    """
    hashes = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), _IDS_AT_ONCE):
        stop = min(start + _IDS_AT_ONCE, len(rows))
        ids = rows.ids(start, stop)
        for row, each in enumerate(ids):
            if not isinstance(each, str) or not each:
                raise DataError(f"id {start + row} is {each!r}; ids are texts that are not empty")
        hashes[start:stop] = hashes_of(ids, stop - start)
    ordered = np.sort(hashes)
    suspected = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(suspected):
        return np.zeros(0, np.int64)
    seen: set[str] = set()
    again: list[int] = []
    first = ""
    for row in np.flatnonzero(np.isin(hashes, suspected)).tolist():
        (each,) = rows.ids(row, row + 1)
        if each in seen:
            again.append(row)
            first = first or each
        seen.add(each)
    if again and not keep_first:
        raise DataError(
            f"{len(again):,} rows have an id that stood before, the first is {first!r}; every id "
            "must name one vector: remove the duplicates, or keep the first of each"
        )
    return np.asarray(again, np.int64)


def _check_same(
    folder: Path,
    manifest: Mapping[str, Any],
    identity: Mapping[str, Any],
    segment_rows: int | None,
    rows: int,
) -> None:
    bulk = manifest.get(BULK)
    if bulk is None:
        raise UserError(
            f"{folder} holds a collection that was not built in bulk: let it grow with kmm index "
            "add, or choose another folder"
        )
    begun = dict(bulk["identity"])
    # Settings that came to be since it was begun have their defaults.
    begun["settings"] = dataclasses.asdict(IndexSettings(**begun["settings"]))
    names = [name for name, value in identity.items() if begun.get(name) != value]
    if segment_rows is not None and bulk["segments"] != -(-rows // segment_rows):
        names.append("segment_rows")
    if names:
        raise UserError(
            f"{folder} is a collection of something else: {', '.join(names)} differ; give what it "
            "was begun with, or choose another folder"
        )


def _only_our_lock(folder: Path) -> bool:
    return {each.name for each in folder.iterdir()} <= {LOCK}


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
