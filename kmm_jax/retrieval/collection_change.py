"""One change of a collection: what it writes, and what counts once it is whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kmm_jax.files import atomic_write, locked, write_json
from kmm_jax.retrieval import checksums
from kmm_jax.retrieval.collection_files import (
    GONE,
    LOCK,
    MANIFEST,
    SEGMENTS,
    State,
    aligned,
    load_state,
    read_manifest,
    refuse_unfinished,
    sweep,
)
from kmm_jax.retrieval.segment import Segment, load_segment, write_segment
from kmm_jax.retrieval.settings import Engine

# Segments of alike size are joined once there are so many: each row is then written again a number
# of times that grows with the logarithm of the collection.
_ALIKE = 8
_SMALLEST = 1_000
_JOINED_AT_ONCE = 200_000  # larger ones wait for `compact`, which may take its time
_GONE_SHARE = 0.3  # a segment with more of its rows gone is written again


class Change:
    """One change of a collection: new segments and rows that are gone, counting all at once."""

    def __init__(self, folder: Path, state: State, engine: Engine) -> None:
        """A change of a collection that is open at ``state``; take `state` after the block."""
        self.state = state
        self._folder, self._engine = folder, engine
        self._lock = locked(folder / LOCK, f"the collection {folder} is being changed")

    def __enter__(self) -> Change:
        self._lock.__enter__()
        try:
            # Others may have changed it since.
            if read_manifest(self._folder)["version"] != self.state.version:
                known = self.state.by_name()
                self.state = load_state(self._folder, self._engine, known)
            refuse_unfinished(self._folder, self.state.manifest)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        manifest = self.state.manifest
        self.segments = list(self.state.segments)
        self._version = self.state.version + 1
        self._metadata = dict(manifest["metadata"])
        self._abouts = {each["name"]: each for each in manifest["segments"]}
        self._made = 0
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            if kind is None and (self._made or self._gone_more() or self._noted()):
                self._commit()
            sweep(self._folder)
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
        folder = self._folder / SEGMENTS / name
        model_hash, settings = self.state.manifest["model_hash"], self.state.settings
        about = write_segment(
            folder, ids, vectors, columns, model_hash=model_hash, settings=settings
        )
        gone = np.zeros(0, np.int64)
        self._abouts[name] = {"name": name, **about}
        self.segments.append(
            load_segment(folder, about, model_hash=model_hash, engine=self._engine, gone=gone)
        )

    def join(self, segments: Sequence[Segment]) -> None:
        """One segment in the place of some."""
        segments = aligned(list(segments))
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
        vectors = _Joined(
            [segment.index for segment in segments], alive, self.state.manifest["dim"]
        )
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
        before = {segment.name: len(segment.gone) for segment in self.state.segments}
        return {segment.name: len(segment.gone) for segment in self.segments} != before

    def _noted(self) -> bool:
        return self._metadata != self.state.manifest["metadata"]

    def _commit(self) -> None:
        known = {segment.name: len(segment.gone) for segment in self.state.segments}
        entries = []
        for segment in self.segments:
            about = dict(self._abouts[segment.name])
            if len(segment.gone) and known.get(segment.name) != len(segment.gone):
                file = self._folder / GONE / f"{self._version:06d}-{segment.name}.npy"
                with atomic_write(file) as opened:
                    np.save(opened, segment.gone)
                about["gone"] = {"file": file.name, **checksums.describe(file)}
            entries.append(about)
        manifest = {
            **self.state.manifest,
            "version": self._version,
            "metadata": self._metadata,
            "segments": entries,
        }
        manifest.pop("seal", None)
        write_json(self._folder / MANIFEST, checksums.sealed(manifest))
        self.state = State(manifest, aligned(self.segments))


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
        parts = []
        for index, rows, end in zip(self._indexes, self._rows, self._ends, strict=True):
            first = int(end) - len(rows)
            some = rows[max(0, start - first) : max(0, stop - first)]
            if len(some):
                parts.append(index.stored(some))
        return np.concatenate(parts) if parts else np.zeros((0, self.shape[1]), np.float32)


def _tier(rows: int) -> int:
    """Rows of one tier are alike in number: up to `_ALIKE` times as many."""
    return max(0, int(np.log(max(rows, 1) / _SMALLEST) // np.log(_ALIKE)) + 1)
