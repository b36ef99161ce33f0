"""Tables as text, TSV and CSV, plain or gzipped: row by row, whatever is wrong with some rows."""

from __future__ import annotations

import collections
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from kmm_jax.data.storage import open_stream
from kmm_jax.errors import DataError, nearest

SUFFIXES = (".tsv", ".csv", ".tsv.gz", ".csv.gz")


class ColumnError(DataError):
    """A table is whole and lacks a column that the config names."""


def is_text(file: str) -> bool:
    """Whether its name is that of a table as text."""
    return file.lower().endswith(SUFFIXES)


def rows(file: str, columns: Sequence[str]) -> Iterator[dict[str, str] | None]:
    """Those columns of each row by the names in the first line; None for a malformed row.

    TSV has no quotes (a tab or line end cannot stand in a cell), CSV has them.

    Raises:
        DataError: no such column, or it cannot be read.
    """
    tabs = ".tsv" in file.lower()[-7:]
    lines = cells(file, separator="\t" if tabs else ",", quoted=not tabs)
    header = next(lines, None)
    if header is None:
        raise DataError(f"{file} has no first line with the names of its columns, in UTF-8")
    places = {name: place for place, name in enumerate(header)}
    if missing := [name for name in columns if name not in places]:
        raise ColumnError(
            f"{file} has no column {missing[0]!r}; it has {', '.join(header)}"
            + nearest(missing[0], header)
        )
    for line in lines:
        whole = line is not None and len(line) == len(header)
        yield {name: line[places[name]] for name in columns} if line and whole else None


def cells(file: str, *, separator: str, quoted: bool) -> Iterator[list[str] | None]:
    """The cells of each row; None for one that is no UTF-8, or whose quotes do not close.

    What a quote that does not close would swallow, up to 128 KiB (Python's limit of a cell) or the
    end, is read again from the next line on.

    Raises:
        DataError: it cannot be unpacked or read.
    """
    try:
        with open_stream(file) as stream:
            plain = gzip.GzipFile(fileobj=stream) if file.lower().endswith(".gz") else stream
            lines = io.TextIOWrapper(
                cast("BinaryIO", plain),
                encoding="utf-8-sig",
                errors="surrogateescape",
                newline="\n",
            )
            split = _quoted(lines, separator) if quoted else _unquoted(lines, separator)
            for line in split:
                yield line if line is not None and all(map(_is_clean, line)) else None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{file} cannot be unpacked: {error}; fetch it again") from error


def _quoted(lines: Iterator[str], separator: str) -> Iterator[list[str] | None]:
    feed = _Feed(lines)
    reader: Any = csv.reader(feed, delimiter=separator, strict=True)
    while True:
        feed.taken = []
        try:
            found = next(reader)
        except StopIteration:
            return
        except csv.Error:
            feed.again(feed.taken[1:])
            yield None
            continue
        if found:  # an empty line is no row
            yield found


class _Feed:
    """Lines for a parser, of which some are given once more."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: collections.deque[str] = collections.deque()
        self.taken: list[str] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        return line

    def again(self, lines: Sequence[str]) -> None:
        self._again.extendleft(reversed(lines))


def _unquoted(lines: Iterator[str], separator: str) -> Iterator[list[str]]:
    for line in lines:
        if text := line.rstrip("\r\n"):
            yield text.split(separator)


def _is_clean(cell: str) -> bool:
    return cell.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in cell)
