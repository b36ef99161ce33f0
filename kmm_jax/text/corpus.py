"""Texts out of plain files: a line a text, or a column of a TSV file; ``.gz`` as well."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from kmm_jax.errors import DataError, nearest


def is_text_file(path: str) -> bool:
    """Whether ``path`` is a file that holds texts, by its name (``.gz`` looked through)."""
    name = path.removesuffix(".gz")
    return name.endswith((".txt", ".tsv")) and Path(path).is_file()


def lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file that are not blank.

    Raises:
        DataError: the file cannot be read, is not UTF-8 or is a broken gzip file.
    """
    return (line for _, line in numbered_lines(path))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of :func:`lines` with their numbers in the file, from 1.

    Raises:
        DataError: the file cannot be read, is not UTF-8 or is a broken gzip file.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: not UTF-8 (byte {error.start} of the line is "
            f"0x{error.object[error.start]:02x}); convert the file, for example with "
            "`iconv -f cp949 -t utf-8`"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is broken after line {number}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def column(path: Path, name: str) -> Iterator[str]:
    """The values of the column ``name`` of a TSV file with one header line and no quoting.

    Raises:
        DataError: no such column, a row too short for it, or the file cannot be read.
    """
    rows = lines(path)
    header = next(rows, "").split("\t")
    if name not in header:
        raise DataError(f"{path} has no column {name!r}{nearest(name, filter(None, header))}")
    position = header.index(name)
    for row in rows:
        cells = row.split("\t")
        if len(cells) <= position:
            raise DataError(
                f"{path}: a row has {len(cells)} of {len(header)} cells and none for {name!r}: "
                f"{row[:60]!r}"
            )
        if cells[position].strip():
            yield cells[position]


def _open(path: Path) -> IO[bytes]:
    if path.name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")
