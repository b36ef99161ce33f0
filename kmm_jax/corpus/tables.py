"""Intermediate tables: written whole or not at all, knowing what they were made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.data.storage import stamp
from kmm_jax.files import atomic_write

_BATCH_ROWS = 16_384


def fingerprint(file: str, *settings: Any) -> str:
    """Changes when the file or what is done with it does."""
    return digest([file, *stamp(file), *settings])


def digest(values: Any) -> str:
    """Of anything JSON can hold."""
    told = dumps(values)
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def dumps(values: Any) -> str:
    """As JSON; equal values, equal text."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False)


def write(
    path: Path,
    schema: pa.Schema,
    groups: Iterable[Sequence[Mapping[str, Any]] | pa.Table],
    about: Callable[[], Mapping[str, str]],
) -> None:
    """Write a Parquet table, a row group for each of ``groups``; whole or not at all.

    Args:
        about: called at the end; kept in the file's metadata, see the function of that name.
    """
    with atomic_write(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in groups:
            table = group if isinstance(group, pa.Table) else pa.Table.from_pylist(group, schema)
            writer.write_table(table, row_group_size=2**31)
        writer.add_key_value_metadata({f"kmm.{name}": value for name, value in about().items()})


def group(path: Path, number: int) -> list[dict[str, Any]]:
    """The rows of one row group; none where there is no such group."""
    with pq.ParquetFile(path) as table:
        if number >= table.num_row_groups:
            return []
        return rows_of(table.read_row_group(number))


def rows_of(data: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows, whatever their cells hold; half the time of Arrow's own ``to_pylist``.

    Texts that are no UTF-8 get replacement characters, values that Python has no type for (dates
    outside its years) become texts.
    """
    columns = [_cells(column) for column in data.columns]
    names = data.schema.names
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _cells(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError):
        return [_cell(value) for value in column]


def _cell(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        if pa.types.is_nested(value.type):
            return None
        return value.cast(pa.binary()).as_py().decode("utf-8", "replace")
    except (ValueError, OverflowError):
        return value.cast(pa.string()).as_py()


def batches(
    path: Path, columns: Sequence[str], groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Some columns of all row groups, or of these, in batches that take little memory."""
    with pq.ParquetFile(path) as table:
        there = range(table.num_row_groups)
        numbers = [number for number in there if groups is None or number in groups]
        if numbers:
            yield from table.iter_batches(_BATCH_ROWS, row_groups=numbers, columns=list(columns))


def columns(path: Path) -> list[str]:
    """The names of a table's columns."""
    return list(pq.read_schema(path).names)


def group_rows(path: Path) -> list[int]:
    """How many rows each row group has."""
    metadata = pq.read_metadata(path)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def about(path: Path) -> dict[str, str]:
    """What ``write`` was told of a table; empty where there is none."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid):
        return {}
    return {
        name.decode().removeprefix("kmm."): value.decode()
        for name, value in metadata.items()
        if name.startswith(b"kmm.")
    }
