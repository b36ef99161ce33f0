"""A collection's files: the manifest, and what it names opened."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import read_described
from kmm_jax.retrieval import checksums
from kmm_jax.retrieval.segment import Segment, load_segment
from kmm_jax.retrieval.settings import Engine, IndexSettings

MANIFEST = "collection.json"
FORMAT = "kmm_jax collection 1"
SEGMENTS, GONE, LOCK = "segments", "gone", ".writing"
BULK = "bulk"  # in the manifest of a collection that is built segment by segment: how far it is


class State(NamedTuple):
    """A collection at one version: its manifest, and the segments that it names, open."""

    manifest: dict[str, Any]
    segments: list[Segment]

    @property
    def version(self) -> int:
        """Of the manifest, one more with every change."""
        return int(self.manifest["version"])

    @property
    def settings(self) -> IndexSettings:
        """Of each segment's index."""
        return IndexSettings(**self.manifest["settings"])

    def by_name(self) -> dict[str, Segment]:
        """The segments by their names."""
        return {segment.name: segment for segment in self.segments}


def is_collection(folder: Path) -> bool:
    """Whether this is a collection's folder."""
    return (folder / MANIFEST).is_file()


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """All columns of some tables.

    Raises:
        DataError: one has two types that do not go together.
    """
    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive")
    except (pa.ArrowException, pa.ArrowTypeError) as error:
        raise DataError(f"a column has another type than in the collection: {error}") from error


def aligned(segments: list[Segment]) -> list[Segment]:
    """Segments that all have all columns, of one type; what one does not have is null."""
    if not segments:
        return []
    schema = unified([segment.columns.schema for segment in segments])
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


def new_manifest(
    *, model_hash: str, dim: int, settings: IndexSettings, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest of an empty collection, to be sealed.

    Raises:
        UserError: ``dim`` below 1.
    """
    if dim < 1:
        raise UserError(f"dim must be at least 1, found {dim}")
    return {
        "format": FORMAT,
        "version": 0,
        "model_hash": model_hash,
        "dim": dim,
        "settings": dataclasses.asdict(settings),
        "metadata": dict(metadata),
        "segments": [],
    }


def refuse_unfinished(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Let a collection be changed only once all of its segments are there.

    Raises:
        UserError: it is being built segment by segment.
    """
    bulk = manifest.get(BULK)
    if bulk is not None and bulk["done"] < bulk["segments"]:
        raise UserError(
            f"{folder} is being built: {bulk['done']} of {bulk['segments']} segments are there; "
            "run kmm index bulk again, it goes on after them"
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked.

    Raises:
        DataError: there is none, or it is damaged or of another version.
    """
    path = folder / MANIFEST
    manifest = read_described(
        path, FORMAT, missing=f"{folder} is no collection: no {MANIFEST} there"
    )
    checksums.check_seal(path, manifest)
    return manifest


def load_state(folder: Path, engine: Engine, known: Mapping[str, Segment]) -> State:
    """What the manifest says, opened; segments that are ``known`` are opened no second time.

    Raises:
        DataError: something is missing or damaged.
    """
    manifest = read_manifest(folder)
    while True:
        try:
            segments = [
                _segment(folder, about, manifest, engine, known.get(about["name"]))
                for about in manifest["segments"]
            ]
            return State(manifest, aligned(segments))
        except DataError:
            # A writer may have joined what the manifest named a moment ago.
            again = read_manifest(folder)
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
        file = folder / GONE / about["gone"]["file"]
        checksums.check(file, about["gone"])
        gone = np.load(file, allow_pickle=False)
    if known is not None and np.array_equal(known.gone, gone):
        return known
    if known is not None:
        return Segment(known.name, known.index, known.columns, gone)
    place = folder / SEGMENTS / about["name"]
    return load_segment(
        place, dict(about), model_hash=manifest["model_hash"], engine=engine, gone=gone
    )


def sweep(folder: Path) -> None:
    """Remove what no manifest names: of killed changes, and of segments that were joined."""
    manifest = read_manifest(folder)
    segments = {each["name"] for each in manifest["segments"]}
    gone = {each["gone"]["file"] for each in manifest["segments"] if each.get("gone")}
    for place in _listed(folder / SEGMENTS):
        if place.name not in segments:
            shutil.rmtree(place, ignore_errors=True)
    for file in _listed(folder / GONE):
        if file.name not in gone:
            file.unlink(missing_ok=True)


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
