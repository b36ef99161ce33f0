"""Intermediate tables: written whole or not at all, knowing what they were made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.data.storage import stamp
from kmm_jax.files import atomic_write


def fingerprint(file: str, *settings: Any) -> str:
    """Changes when the file or what is done with it does."""
    return digest([*stamp(file), *settings])


def digest(values: Any) -> str:
    """Of anything JSON can hold."""
    told = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def write(
    path: Path,
    schema: pa.Schema,
    groups: Iterable[Sequence[Mapping[str, Any]]],
    about: Callable[[], Mapping[str, str]],
) -> None:
    """Write a Parquet table, a row group for each of ``groups``; whole or not at all.

    Args:
        about: called at the end; kept in the file's metadata, see the function of that name.
    """
    with atomic_write(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=2**31)
        writer.add_key_value_metadata({f"kmm.{name}": value for name, value in about().items()})


def group(path: Path, number: int) -> list[dict[str, Any]]:
    """The rows of one row group; none where there is no such group."""
    with pq.ParquetFile(path) as table:
        if number >= table.num_row_groups:
            return []
        return table.read_row_group(number).to_pylist()


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
