"""Embeddings on disk: Parquet parts, computed one by one, and a manifest once all are whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import atomic_write, remove_leftovers, write_json
from kmm_jax.retrieval import checksums
from kmm_jax.retrieval.settings import VectorType
from kmm_jax.retrieval.vectors import bfloat16_type

Kind = Literal["image", "text"]
Compute = Callable[[int, int], tuple[list[str], np.ndarray]]

MANIFEST = "manifest.json"
_FORMAT = "kmm_jax embeddings 1"
_IDENTITY = b"kmm_jax"
_WORDS = {
    "model_hash": "another model",
    "kind": "another kind",
    "origin": "other data",
    "dim": "another dimension",
    "dtype": "another dtype",
    "rows": "another number of rows",
    "part_rows": "another size of the parts",
}


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Vectors with their ids, in the order of the rows they were computed from.

    Attributes:
        ids: N ids.
        vectors: float32 (N, D).
        kind: what was embedded, ``"image"`` or ``"text"``.
        model_hash: of the model that computed them.
        origin: where the rows came from, as ``export_embeddings`` was told.
        metadata: notes that ``export_embeddings`` was given.
        spans: for each part ``(start, stop, kept)``: between which of the source's rows its rows
            are, and how many are here.
    """

    ids: list[str]
    vectors: np.ndarray
    kind: Kind
    model_hash: str
    origin: dict[str, Any]
    metadata: dict[str, Any]
    spans: list[tuple[int, int, int]]


def export_embeddings(
    folder: str | os.PathLike[str],
    *,
    rows: int,
    part_rows: int,
    compute: Compute,
    kind: Kind,
    model_hash: str,
    dim: int,
    origin: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    dtype: VectorType = "float32",
    process_index: int = 0,
    process_count: int = 1,
) -> None:
    """Compute embeddings part by part; a later call goes on after the whole parts.

    A part is a file ``part-00000-of-00012.parquet`` with the columns ``id`` (string) and ``vector``
    (fixed-size list of float32, or bytes of bfloat16, a type that Parquet does not have);
    ``manifest.json`` is written last. An export that was killed and called again ends with the same
    bytes as one that was not.

    Args:
        rows: of the source; part ``i`` is computed from rows ``i * part_rows`` onwards.
        compute: from rows start (inclusive) and stop (exclusive) to the ids and vectors (n, dim)
            of those that could be used. It must be pure.
        origin: what else the vectors depend on, such as the source's name; JSON values. An export
            into the same folder with another origin is refused.
        metadata: notes for the manifest; JSON values.
        dtype: that vectors are rounded to; bfloat16 takes half the bytes.
        process_index, process_count: of several processes that share the folder, each calls this
            and computes every ``process_count``-th part; the last to end writes the manifest.

    Raises:
        UserError: the folder holds another export, or the arguments cannot work.
        DataError: ``compute`` gave ids and vectors that do not match, NaN, or no row at all.
    """
    folder = Path(folder)
    if rows < 1:
        raise DataError(f"nothing to embed: the source has {rows} rows")
    if part_rows < 1 or not 0 <= process_index < process_count:
        raise UserError(
            f"part_rows must be at least 1 (found {part_rows}) and process_index below "
            f"process_count (found {process_index} of {process_count})"
        )
    identity = {
        "kind": kind,
        "model_hash": model_hash,
        "dim": dim,
        "rows": rows,
        "part_rows": part_rows,
        "origin": dict(origin or {}),
        **({"dtype": dtype} if dtype != "float32" else {}),  # as exports had it before
    }
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_another(folder, identity)
    paths = _part_paths(folder, rows, part_rows)
    for number in range(process_index, len(paths), process_count):
        path = paths[number]
        remove_leftovers(path)
        if _kept_rows(path, identity) is None:
            start = number * part_rows
            stop = min(start + part_rows, rows)
            ids, vectors = compute(start, stop)
            write_part(path, ids, vectors, identity, limit=stop - start)
    if process_count == 1:
        remove_leftovers(folder / MANIFEST)
    kept = [_kept_rows(path, identity) if path.is_file() else None for path in paths]
    whole = [count for count in kept if count is not None]
    if len(whole) < len(paths):
        # Another process is still at work, or was stopped and will be started again.
        return
    if not sum(whole):
        raise DataError(f"{folder}: not one of the {rows:,} rows could be embedded")
    parts = [
        {"file": path.name, "rows": count, **checksums.describe(path)}
        for path, count in zip(paths, whole, strict=True)
    ]
    manifest = {
        "format": _FORMAT,
        **{name: identity[name] for name in ("kind", "model_hash", "dim")},
        **({"dtype": dtype} if dtype != "float32" else {}),
        "rows": sum(whole),
        "source_rows": rows,
        "part_rows": part_rows,
        "origin": identity["origin"],
        "metadata": dict(metadata or {}),
        "parts": parts,
    }
    write_json(folder / MANIFEST, checksums.sealed(manifest))


def load_embeddings(folder: str | os.PathLike[str]) -> Embeddings:
    """Read a whole export; every part is checked against the manifest.

    Raises:
        DataError: no manifest, or a part that is missing, damaged or of another shape.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    dim, rows = manifest["dim"], manifest["rows"]
    vectors_ND = np.empty((rows, dim), np.float32)
    ids: list[str] = []
    spans: list[tuple[int, int, int]] = []
    purged = 0
    for number, part in enumerate(manifest["parts"]):
        path = folder / part["file"]
        checksums.check(path, part)
        table = read_part(path, dim)
        if table.num_rows != part["rows"] or len(ids) + table.num_rows > rows:
            raise DataError(f"{path}: {table.num_rows} rows, not as {MANIFEST} says")
        vectors_ND[len(ids) : len(ids) + table.num_rows] = matrix(table, dim)
        ids += table.column("id").to_pylist()
        start = number * manifest["part_rows"]
        stop = min(start + manifest["part_rows"], manifest["source_rows"])
        # Rows that were purged before this part may be gone from the source too: then the part's
        # rows stand that much earlier there.
        spans.append((start - purged, stop, table.num_rows))
        purged += part.get("purged", 0)
    if len(ids) != rows:
        raise DataError(f"{folder}: the parts hold {len(ids)} rows, {MANIFEST} says {rows}")
    return Embeddings(
        ids=ids,
        vectors=vectors_ND,
        kind=manifest["kind"],
        model_hash=manifest["model_hash"],
        origin=manifest["origin"],
        metadata=manifest["metadata"],
        spans=spans,
    )


def first_of_each(embeddings: Embeddings) -> Embeddings:
    """``embeddings`` without the rows whose id stood before."""
    first: dict[str, int] = {}
    for row, each in enumerate(embeddings.ids):
        first.setdefault(each, row)
    kept = np.fromiter(first.values(), np.int64, len(first))
    ends = np.cumsum([count for _, _, count in embeddings.spans])
    below = np.searchsorted(kept, ends, side="left")
    counts = np.diff(below, prepend=0).tolist()
    return replace(
        embeddings,
        ids=list(first),
        vectors=embeddings.vectors[kept],
        spans=[(a, b, n) for (a, b, _), n in zip(embeddings.spans, counts, strict=True)],
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a whole export.

    Raises:
        DataError: there is none, or it is damaged or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        parts = len(list(folder.glob("part-*.parquet"))) if folder.is_dir() else 0
        raise DataError(
            f"{folder} is an unfinished export: {parts} parts and no {MANIFEST}; run kmm embed "
            "with the same arguments again, it goes on after the whole parts"
            if parts
            else f"{folder} holds no embeddings: no {MANIFEST} there; write some with kmm embed"
        )
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}; run kmm embed again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise DataError(f"{path} is not a manifest of this version ({_FORMAT!r})")
    checksums.check_seal(path, manifest)
    return manifest


def _part_paths(folder: Path, rows: int, part_rows: int) -> list[Path]:
    count = -(-rows // part_rows)
    return [folder / f"part-{i:05d}-of-{count:05d}.parquet" for i in range(count)]


def _refuse_another(folder: Path, identity: Mapping[str, Any]) -> None:
    for path in sorted(folder.glob("part-*.parquet")):
        found = identity_of(path)
        if found is None:
            continue
        for name, words in _WORDS.items():
            if found.get(name) != identity.get(name):
                raise UserError(
                    f"{folder} holds embeddings of {words}: {name} is {found.get(name)!r} in "
                    f"{path.name}, {identity.get(name)!r} now; choose another folder or "
                    "remove this one"
                )


def identity_of(path: Path) -> dict[str, Any] | None:
    """What the part says of itself; None if it is no whole Parquet file of ours."""
    try:
        found = json.loads((pq.read_schema(path).metadata or {})[_IDENTITY])
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return None
    return found if isinstance(found, dict) else None


def _kept_rows(path: Path, identity: Mapping[str, Any]) -> int | None:
    """How many rows a whole part holds; None if it is missing or not whole."""
    if not path.is_file() or identity_of(path) != identity:
        return None
    try:
        return int(read_part(path, identity["dim"]).num_rows)
    except DataError:
        return None


def read_part(path: Path, dim: int) -> pa.Table:
    """Read a part with the checksums of its pages.

    Raises:
        DataError: it is damaged, or its columns are not ``id`` and ``vector`` of ``dim`` values.
    """
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is damaged: {error}; run kmm embed again") from error
    if not any(table.schema.equals(_schema(dim, dtype)) for dtype in get_args(VectorType)):
        raise DataError(f"{path}: expected the columns {_schema(dim)}, found {table.schema}")
    return table


def _schema(dim: int, dtype: VectorType = "float32") -> pa.Schema:
    if dtype == "float32":
        vector = pa.list_(pa.field("element", pa.float32(), nullable=False), dim)
    else:
        vector = pa.binary(2 * dim)
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("vector", vector, nullable=False),
        ]
    )


def matrix(table: pa.Table, dim: int) -> np.ndarray:
    """The vectors of a part (N, D), float32 or bfloat16 as they are kept."""
    column = table.column("vector").combine_chunks()
    if pa.types.is_fixed_size_binary(column.type):
        bits = np.frombuffer(
            column.buffers()[1], np.uint16, len(column) * dim, column.offset * 2 * dim
        )
        return bits.reshape(-1, dim).view(bfloat16_type())
    return np.asarray(column.flatten()).reshape(table.num_rows, dim)


def write_part(
    path: Path,
    ids: Sequence[str],
    vectors: np.ndarray,
    identity: Mapping[str, Any],
    *,
    limit: int,
) -> None:
    """Write a part whole or not at all.

    Args:
        identity: what the part says of itself.
        limit: rows of the source that it was made of.

    Raises:
        DataError: ids and vectors that do not match, NaN, or more of them than ``limit``.
    """
    dim = identity["dim"]
    vectors_ND = np.ascontiguousarray(vectors, np.float32).reshape(-1, *np.shape(vectors)[1:])
    if vectors_ND.shape != (len(ids), dim) or len(ids) > limit:
        raise DataError(
            f"{path.name}: {len(ids)} ids and vectors of shape {vectors_ND.shape}; expected at "
            f"most {limit} rows of dimension {dim}"
        )
    if not np.isfinite(vectors_ND).all():
        first = int(np.flatnonzero(~np.isfinite(vectors_ND).all(axis=1))[0])
        raise DataError(f"{path.name}: the vector of {ids[first]!r} holds NaN or infinity")
    dtype: VectorType = identity.get("dtype", "float32")
    schema = _schema(dim, dtype).with_metadata(
        {_IDENTITY: json.dumps(identity, ensure_ascii=False)}
    )
    if dtype == "float32":
        column = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors_ND.ravel()), type=schema.types[1]
        )
    else:
        bits = pa.py_buffer(vectors_ND.astype(bfloat16_type()).tobytes())
        column = pa.Array.from_buffers(schema.types[1], len(ids), [None, bits])
    table = pa.Table.from_arrays([pa.array(ids, pa.string()), column], schema=schema)
    with atomic_write(path) as file:
        pq.write_table(
            table,
            file,
            compression="none",
            use_dictionary=False,
            write_statistics=["id"],
            write_page_checksum=True,
        )
