"""Rows out of the files a corpus is built from: pictures and texts."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.corpus.config import Images
from kmm_jax.data.storage import RandomReader, open_stream
from kmm_jax.errors import DataError

# Pictures held at once while a file is read: with photos of a megabyte, as many megabytes.
_ROWS_AT_ONCE = 64


class Picture(NamedTuple):
    """One row of a file of pictures.

    Attributes:
        row: its number in the file.
        place: where its bytes are, for ``pictures_at``: (row group, row in it) of a Parquet table,
            (offset, size) in a tar.
        data: the encoded picture; None where the cell is empty.
    """

    row: int
    place: tuple[int, int]
    key: str
    data: bytes | None
    title: str | None
    url: str | None


def pictures(source: Images, file: str) -> Iterator[Picture]:
    """The rows of one file, in its order.

    Raises:
        DataError: it cannot be read, or has not the columns the source names.
    """
    return _from_tar(source, file) if file.endswith(".tar") else _from_parquet(source, file)


def pictures_at(source: Images, file: str, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes at these places, which are in the file's order."""
    if file.endswith(".tar"):
        reader = RandomReader()
        for offset, size in places:
            yield reader.read(file, offset, size)
        return
    with open_stream(file) as handle, _explained(file):
        table, held, column = pq.ParquetFile(handle), -1, None
        for group, row in places:
            if group != held:
                column = table.read_row_group(group, columns=[source.image]).column(0)
                held = group
            assert column is not None
            data = column[row].as_py()
            yield data["bytes"] if isinstance(data, dict) else data


def rows(file: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet table, those columns alone.

    Raises:
        DataError: it cannot be read or lacks a column; names those it has.
    """
    with open_stream(file) as handle, _explained(file):
        table = pq.ParquetFile(handle)
        _check_columns(file, table, columns)
        for batch in table.iter_batches(batch_size=8192, columns=list(columns)):
            yield from batch.to_pylist()


@contextlib.contextmanager
def _explained(file: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, tarfile.TarError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())[:300]}") from error


def _check_columns(file: str, table: pq.ParquetFile, columns: Sequence[str | None]) -> None:
    there = table.schema_arrow.names
    if missing := [name for name in columns if name is not None and name not in there]:
        raise DataError(f"{file} has no column {missing[0]!r}; it has {', '.join(there)}")


def _from_parquet(source: Images, file: str) -> Iterator[Picture]:
    wanted = (source.key, source.image, source.title, source.image_url)
    columns = [name for name in wanted if name is not None]
    with open_stream(file) as handle, _explained(file):
        table = pq.ParquetFile(handle)
        _check_columns(file, table, wanted)
        number = 0
        for group in range(table.num_row_groups):
            inside = 0
            for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
                for row in batch.to_pylist():
                    data = row[source.image]
                    if isinstance(data, dict):  # as Hugging Face's datasets keep pictures
                        data = data.get("bytes")
                    yield Picture(
                        row=number,
                        place=(group, inside),
                        key=_text(row.get(source.key or "")) or f"{file}:{number}",
                        data=data if isinstance(data, bytes) else None,
                        title=_text(row.get(source.title or "")),
                        url=_text(row.get(source.image_url or "")),
                    )
                    number, inside = number + 1, inside + 1


_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def _from_tar(source: Images, file: str) -> Iterator[Picture]:
    """Pairs of a picture and the JSON of the same name, whichever comes first."""
    held: dict[str, dict[str, Any]] = {}
    number = 0

    def row(stem: str) -> Picture:
        nonlocal number
        parts = held.pop(stem)
        record = parts.get("record", {})
        number += 1
        return Picture(
            row=number - 1,
            place=parts["place"],
            key=_text(record.get(source.key or "")) or stem,
            data=parts["data"],
            title=_text(record.get(source.title or "")),
            url=_text(record.get(source.image_url or "")),
        )

    with open_stream(file) as handle, _explained(file), tarfile.open(fileobj=handle) as tar:
        for member in tar:
            stem, dot, suffix = member.name.rpartition(".")
            suffix = f"{dot}{suffix}".lower()
            if not member.isfile() or suffix not in (*_PICTURES, ".json"):
                continue
            # A pair stands together; an earlier picture still alone has no JSON.
            for other in [other for other in held if other != stem and "data" in held[other]]:
                yield row(other)
            opened = tar.extractfile(member)
            assert opened is not None
            data = opened.read()
            parts = held.setdefault(stem, {})
            if suffix == ".json":
                parts["record"] = _record(data)
            else:
                parts["data"], parts["place"] = data, (member.offset_data, member.size)
            if len(parts) == 3:
                yield row(stem)
        for other in [other for other in held if "data" in held[other]]:
            yield row(other)


def _record(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, bytes | list | dict):
        return None
    return str(value)
