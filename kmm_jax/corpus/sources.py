"""Rows out of the files a corpus is built from: pictures and texts."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import re
import tarfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.corpus import beside, loose, tables, text_tables
from kmm_jax.corpus.config import Images
from kmm_jax.data.patterns import braces, expand
from kmm_jax.data.storage import RandomReader, is_folder, open_stream, stamp
from kmm_jax.errors import DataError

# Pictures held at once while a file is read: with photos of a megabyte, as many megabytes.
_ROWS_AT_ONCE = 64
_TAR, _PARQUET = ".tar", ".parquet"
# A tar begins with a member's name, which may well begin with BZh.
_COMPRESSED = re.compile(rb"\x1f\x8b|BZh[1-9]1AY&SY|\xfd7zXZ\0|\x28\xb5\x2f\xfd")


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
    if all(_ends(one, *loose.SUFFIXES) for one in braces(url)):
        return loose.write_listings(url, listings)
    if not is_folder(url):
        found = sorted(expand(url))
        packed = any(_ends(one, _TAR, _PARQUET) for one in found)
        if not packed and any(_ends(one, *loose.SUFFIXES) for one in found):
            return loose.write_listings(url, listings)
        return found
    if tars := _in_folder(url, _TAR):
        return tars
    try:
        return loose.write_listings(url, listings)
    except DataError as error:
        if found := _in_folder(url, _PARQUET):
            return found
        raise DataError(
            f"{url}: nothing to read in this folder: no tars ({_TAR}); {error}; "
            f"no tables ({_PARQUET})"
        ) from error


def table_files(url: str) -> list[str]:
    """The tables that ``url`` of documents, clicks or products names; of a folder all in it.

    Raises:
        DataError: there are none.
    """
    suffixes = (_PARQUET, *text_tables.SUFFIXES)
    if is_folder(url):
        if found := _in_folder(url, *suffixes):
            return found
        raise DataError(f"{url}: no tables in this folder ({', '.join(suffixes)})")
    try:
        return sorted(expand(url))
    except DataError as error:
        raise DataError(f"{error}; tables are read from {', '.join(suffixes)}") from error


def _in_folder(folder: str, *suffixes: str) -> list[str]:
    """The files right in a folder that end so, in the order of their names."""
    found: list[str] = []
    for suffix in suffixes:
        any_case = "".join(f"[{one}{one.upper()}]" if one.isalpha() else one for one in suffix)
        with contextlib.suppress(DataError):  # there is none of this kind
            found += expand(f"{folder.rstrip('/')}/*{any_case}")
    return sorted(one for one in found if not one.rpartition("/")[2].startswith("."))


def _ends(file: str, *suffixes: str) -> bool:
    """Whether a file is of a kind, by its name in any case."""
    return file.lower().endswith(suffixes)


def shown(file: str) -> tuple[str, int]:
    """A file of pictures as its user knows it, and the bytes of what is read from it."""
    if loose.is_listing(file):
        return loose.shown(file), sum(entry.size for entry in loose.entries(file))
    return file, stamp(file)[0]


def key_of(value: Any) -> str:
    """The key in a cell, empty where there is none.

    A picture's suffix is no part of it, and letters are composed (macOS decomposes Korean names).
    Whole numbers are the same key however the column keeps them: pandas makes floats of integers
    where one cell is empty.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = loose.name_of(_text(value) or "")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def pictures(source: Images, file: str) -> Iterator[Picture]:
    """The rows of one file, in its order.

    Raises:
        DataError: it cannot be read, or has not the columns the source names.
    """
    if loose.is_listing(file):
        return _from_listing(source, file)
    return _from_tar(source, file) if _ends(file, _TAR) else _from_parquet(source, file)


def pictures_at(source: Images, file: str, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes at these places, which are in the file's order."""
    if loose.is_listing(file):
        yield from loose.read_at(file, [number for number, _ in places])
        return
    if _ends(file, _TAR):
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
        raise text_tables.ColumnError(
            f"{file} has no column {missing[0]!r}; it has {', '.join(there)}"
        )


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


class _Packed(NamedTuple):
    """A picture in a tar: its name, where it is and where its JSON is (offset, size)."""

    stem: str
    place: tuple[int, int]
    told: tuple[int, int] | None
    together: bool


def _from_tar(source: Images, file: str) -> Iterator[Picture]:
    """The pictures of a tar in their order, each with the JSON of its name.

    That is the one right behind it or before it, else the last one of this name anywhere in the
    tar. Names are read first, so that of the bytes one picture and its JSON are in memory.
    """
    far = RandomReader()
    with open_stream(file) as handle, _explained(file):

        def read(place: tuple[int, int]) -> bytes:
            handle.seek(place[0])
            data = handle.read(place[1])
            if len(data) < place[1]:
                raise tarfile.ReadError(f"it ends amid the member at byte {place[0]:,}")
            return data

        for number, packed in enumerate(_packed(file, handle)):
            places = {packed.place}
            if packed.told is not None and packed.together:
                places.add(packed.told)
            # In the file's order, for the sake of what is read ahead from a store.
            found = {place: read(place) for place in sorted(places)}
            told = b"{}"
            if packed.told is not None:
                told = found[packed.told] if packed.together else far.read(file, *packed.told)
            name = packed.stem.removeprefix("./")
            row, data = _record(told), found[packed.place]
            yield _picture(source, row, number, packed.place, name, data)


def _packed(file: str, handle: BinaryIO) -> list[_Packed]:
    """The pictures in a tar, from its headers.

    Raises:
        DataError: it is compressed.
    """
    if _COMPRESSED.match(handle.read(10)):
        raise DataError(
            f"{file} is compressed, and pictures are looked up by their place; unpack it first"
        )
    handle.seek(0)
    members: list[tuple[str, bool, tuple[int, int]]] = []
    with tarfile.open(fileobj=handle, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # it would keep every header
            stem, dot, suffix = member.name.rpartition(".")
            suffix = f"{dot}{suffix}".lower()
            if member.isfile() and suffix in (*loose.SUFFIXES, ".json"):
                place = member.offset_data, member.size
                members.append((stem, suffix == ".json", place))
        # At a header that is none, tarfile stops as if there were no more.
        handle.seek(tar.offset)
        if handle.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"damaged at byte {tar.offset:,}: no header stands there")
    anywhere = {stem: place for stem, is_record, place in members if is_record}
    found = []
    for number, (stem, is_record, place) in enumerate(members):
        if is_record:
            continue
        beside = [*members[number + 1 : number + 2], *members[max(number - 1, 0) : number]]
        near = [where for name, is_told, where in beside if is_told and name == stem]
        told = near[0] if near else anywhere.get(stem)
        found.append(_Packed(stem, place, told, together=bool(near)))
    return found


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
    if value is None or isinstance(value, list | dict):
        return None
    if isinstance(value, bytes):  # a text in a column that does not say so
        return value.decode("utf-8", "replace")
    # Half of a pair of UTF-16 (in JSON) and bytes of no UTF-8 (in a name) are no text for a table.
    return str(value).encode("utf-8", "replace").decode()
