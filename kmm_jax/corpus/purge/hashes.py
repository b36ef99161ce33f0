"""Lists of pictures by their hash: those a person hands in, and the one that a corpus keeps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from kmm_jax.errors import DataError, nearest
from kmm_jax.files import atomic_write

COLUMN = "image_hash"
LIST = "purged.txt"
"""In a corpus's folder: the pictures that it takes up no more. ``choose`` honours it."""

# As for the name of a shard's member, and no space: a line of prose is no hash.
_NO_HASH = re.compile(r"^\.|[/\\\0\s]")

# What people copy is often a picture's file name, or a hash that something wrote in capitals.
_PICTURE = re.compile(r"(?<=.)\.(jpe?g|png|webp|gif|bmp|json)$", re.IGNORECASE)
# Shorter ones may be words or numbers of the user's own, in which the case matters.
_HEX = re.compile(r"[0-9a-fA-F]{16,}")


def read(path: Path) -> list[str]:
    """The hashes in a file, each once, in its order.

    Args:
        path: a hash a line, ``#`` begins a comment; or ``.csv``, ``.tsv`` and ``.parquet`` with a
            column ``image_hash``.

    Raises:
        DataError: it cannot be read, is not UTF-8, lacks the column, or holds what is no hash.
    """
    try:
        found = list(_read(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"the list {path} cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        told = " ".join(str(error).split())[:300]
        raise DataError(f"the list {path} cannot be read: {told}") from error
    for where, value in found:
        if not isinstance(value, str) or not value or _NO_HASH.search(value):
            raise DataError(
                f"{path}, {where}: {value!r} is no image_hash; write one a line without spaces, "
                f"or a .csv or .parquet file with a column {COLUMN}"
            )
    return list(dict.fromkeys(value for _, value in found))


def fold(value: str) -> str:
    """A hash as a corpus writes it: without a picture's suffix, hexadecimal in small letters."""
    value = _PICTURE.sub("", value)
    return value.lower() if _HEX.fullmatch(value) else value


def forms(value: str) -> frozenset[str]:
    """All that a hash as it was handed in may be called in a target."""
    bare = fold(value)
    return frozenset({value, bare, bare.upper() if _HEX.fullmatch(bare) else bare})


def listed(path: Path) -> frozenset[str]:
    """The hashes of a corpus's own list; none where there is no such file."""
    return frozenset(map(fold, read(path))) if path.exists() else frozenset()


def extend(path: Path, hashes: Iterable[str], note: str) -> int:
    """Add to a corpus's own list what is not there yet, under a comment; returns how many."""
    known = listed(path)
    new = [value for value in hashes if value not in known]
    if new:
        before = path.read_text("utf-8") if path.exists() else ""
        with atomic_write(path, "w") as file:
            file.write(before + f"# {note}\n" + "".join(f"{value}\n" for value in new))
    return len(new)


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, value)."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        names = pq.read_schema(path).names
        _check_column(path, names)
        table = pq.read_table(path, columns=[COLUMN])
    elif kind in (".csv", ".tsv"):
        options = pa_csv.ConvertOptions(
            column_types={COLUMN: pa.string()}, strings_can_be_null=False
        )
        delimiter = "\t" if kind == ".tsv" else ","
        table = pa_csv.read_csv(
            path, parse_options=pa_csv.ParseOptions(delimiter=delimiter), convert_options=options
        )
        _check_column(path, table.column_names)
    else:
        for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), start=1):
            # A comment stands alone or behind a space: a hash may hold the sign.
            value = re.sub(r"(^|\s)#.*", "", line).strip()
            if value:
                yield f"line {number}", value
        return
    for number, value in enumerate(table.column(COLUMN).to_pylist(), start=1):
        yield f"row {number}", value


def _check_column(path: Path, names: list[str]) -> None:
    if COLUMN not in names:
        raise DataError(f"{path} has no column {COLUMN!r}{nearest(COLUMN, names)}")
