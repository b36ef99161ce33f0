"""Rows out of the files a corpus is built from: pictures and texts."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import tarfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.corpus import beside, loose, tables, text_tables
from kmm_jax.corpus.config import Images
from kmm_jax.data.patterns import braces, expand
from kmm_jax.data.storage import RandomReader, is_folder, open_stream, stamp
from kmm_jax.errors import DataError

# Pictures held at once while a file is read: with photos of a megabyte, as many megabytes.
_ROWS_AT_ONCE = 64


class Picture(NamedTuple):
    """One row of a file of pictures.

    Attributes:
        row: its number in the file.
        place: where its bytes are, for ``pictures_at``: (row group, row in it) of a Parquet table,
            (offset, size) in a tar, (place, size) in a listing of loose files.
        data: the encoded picture; None where the cell is empty.
        beside: what the source says beside it, as ``beside.told`` has it.
    """

    row: int
    place: tuple[int, int]
    key: str
    data: bytes | None
    url: str | None
    beside: str | None


def files(url: str, listings: Path) -> list[str]:
    """The files that tasks read the pictures of ``Images.url`` from, in the order of their names.

    Of a folder: the tars in it, else the pictures anywhere below, else the Parquet tables in it.

    Args:
        listings: a folder for the listings of loose pictures.

    Raises:
        DataError: there are none.
    """
    if all(one.lower().endswith(loose.SUFFIXES) for one in braces(url)):
        return loose.write_listings(url, listings)
    if not is_folder(url):
        found = sorted(expand(url))
        packed = any(one.lower().endswith((".tar", ".parquet")) for one in found)
        if not packed and any(one.lower().endswith(loose.SUFFIXES) for one in found):
            return loose.write_listings(url, listings)
        return found
    without: list[str] = []
    for look in (
        lambda: sorted(expand(f"{url.rstrip('/')}/*.tar")),
        lambda: loose.write_listings(url, listings),
        lambda: sorted(expand(f"{url.rstrip('/')}/*.parquet")),
    ):
        try:
            return look()
        except DataError as error:
            without.append(str(error))
    raise DataError(f"{url}: nothing to read in this folder: {'; '.join(without)}")


def shown(file: str) -> tuple[str, int]:
    """A file of pictures as its user knows it, and the bytes of what is read from it."""
    if loose.is_listing(file):
        return loose.shown(file), sum(entry.size for entry in loose.entries(file))
    return file, stamp(file)[0]


def key_of(value: Any) -> str:
    """The key in a cell, empty where there is none.

    A picture's suffix is no part of it, and letters are composed (macOS decomposes Korean names).
    """
    text = loose.name_of(_text(value) or "")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def pictures(source: Images, file: str) -> Iterator[Picture]:
    """The rows of one file, in its order.

    Raises:
        DataError: it cannot be read, or has not the columns the source names.
    """
    if loose.is_listing(file):
        return _from_listing(source, file)
    return _from_tar(source, file) if file.endswith(".tar") else _from_parquet(source, file)


def pictures_at(source: Images, file: str, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes at these places, which are in the file's order."""
    if loose.is_listing(file):
        yield from loose.read_at(file, [number for number, _ in places])
        return
    if file.endswith(".tar"):
        reader = RandomReader()
        for offset, size in places:
            yield reader.read(file, offset, size)
        return
    with open_stream(file) as handle, _explained(file):
        table = pq.ParquetFile(handle)
        for group, some in itertools.groupby(places, lambda place: place[0]):
            wanted, start = collections.deque(row for _, row in some), 0
            for batch in table.iter_batches(
                _ROWS_AT_ONCE, row_groups=[group], columns=[source.image]
            ):
                while wanted and wanted[0] < start + len(batch):
                    data = batch.column(0)[wanted.popleft() - start].as_py()
                    yield data["bytes"] if isinstance(data, dict) else data
                start += len(batch)
                if not wanted:
                    break


def rows(file: str, columns: Sequence[str]) -> Iterator[dict[str, Any] | None]:
    """The rows of a table (Parquet, TSV, CSV), those columns alone; None for a malformed one.

    Raises:
        DataError: it cannot be read or lacks a column; names those it has.
    """
    if text_tables.is_text(file):
        yield from text_tables.rows(file, columns)
        return
    with open_stream(file) as handle, _explained(file):
        table = pq.ParquetFile(handle)
        _check_columns(file, table, columns)
        for batch in table.iter_batches(batch_size=8192, columns=list(columns)):
            yield from tables.rows_of(batch)


@contextlib.contextmanager
def _explained(file: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, tarfile.TarError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's; Arrow's about broken pages have no number
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())[:300]}") from error


def _check_columns(file: str, table: pq.ParquetFile, columns: Sequence[str | None]) -> None:
    there = table.schema_arrow.names
    if missing := [name for name in columns if name is not None and name not in there]:
        raise DataError(f"{file} has no column {missing[0]!r}; it has {', '.join(there)}")


def _from_parquet(source: Images, file: str) -> Iterator[Picture]:
    wanted = (source.key, source.image, source.image_url, *beside.columns(source))
    columns = list(dict.fromkeys(name for name in wanted if name is not None))
    with open_stream(file) as handle, _explained(file):
        table = pq.ParquetFile(handle)
        _check_columns(file, table, wanted)
        number = 0
        for group in range(table.num_row_groups):
            inside = 0
            for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
                for row in tables.rows_of(batch):
                    data = row[source.image]
                    if isinstance(data, dict):  # as Hugging Face's datasets keep pictures
                        data = data.get("bytes")
                    data = data if isinstance(data, bytes) else None
                    name = f"{file}:{number}"
                    yield _picture(source, row, number, (group, inside), name, data)
                    number, inside = number + 1, inside + 1


def _from_tar(source: Images, file: str) -> Iterator[Picture]:
    """Pairs of a picture and the JSON of the same name, whichever comes first."""
    held: dict[str, dict[str, Any]] = {}
    number = 0

    def row(stem: str) -> Picture:
        nonlocal number
        parts = held.pop(stem)
        number += 1
        record = parts.get("record", {})
        name = stem.removeprefix("./")
        return _picture(source, record, number - 1, parts["place"], name, parts["data"])

    with open_stream(file) as handle, _explained(file), tarfile.open(fileobj=handle) as tar:
        for member in tar:
            stem, dot, suffix = member.name.rpartition(".")
            suffix = f"{dot}{suffix}".lower()
            if not member.isfile() or suffix not in (*loose.SUFFIXES, ".json"):
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
        # At a header that is none, tarfile stops as if there were no more.
        handle.seek(tar.offset)
        if handle.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"damaged at byte {tar.offset:,}: no header stands there")


def _from_listing(source: Images, file: str) -> Iterator[Picture]:
    for number, (entry, data, told) in enumerate(loose.read(file)):
        record = _record(told or b"{}")
        yield _picture(source, record, number, (number, entry.size), entry.name, data)


def _picture(
    source: Images,
    row: Mapping[str, Any],
    number: int,
    place: tuple[int, int],
    name: str,
    data: bytes | None,
) -> Picture:
    return Picture(
        row=number,
        place=place,
        key=key_of(row.get(source.key or "")) or key_of(name),
        data=data,
        url=_text(row.get(source.image_url or "")),
        beside=beside.told(source, row),
    )


def _record(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, bytes | list | dict):
        return None
    # Half of a pair of UTF-16 (in JSON) and bytes of no UTF-8 (in a name) are no text for a table.
    return str(value).encode("utf-8", "replace").decode()
