"""Sentences that say the same in Korean and English: TSV files with the columns ``ko``, ``en``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from kmm_jax.errors import DataError, nearest
from kmm_jax.text import corpus
from kmm_jax.text.normalize import normalize

Split = Literal["train", "test"]

_COLUMNS = ("ko", "en")
_SUFFIXES = (".tsv", ".tsv.gz")
_TEST_SHARE = 10  # one English text in ten


def read_pairs(path: Path, split: Split | None = None) -> Iterator[tuple[str, str]]:
    """The (Korean, English) pairs of one TSV file, in its order, or those of one split.

    The file is UTF-8 with one header line and no quoting, ``.gz`` or not; other columns are passed
    over.

    Raises:
        DataError: it cannot be read, lacks a column, or a row has too few or too many cells or
            nothing in one of the two; the message names the file and the line.
    """
    rows = corpus.numbered_lines(path)
    header = next(rows, (1, ""))[1].split("\t")
    for name in _COLUMNS:
        if name not in header:
            raise DataError(
                f"{path} has no column {name!r}{nearest(name, filter(None, header))}; pairs "
                f"stand in the columns {' and '.join(_COLUMNS)}, found: {header}"
            )
    places = [header.index(name) for name in _COLUMNS]
    for number, row in rows:
        cells = row.split("\t")
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells, but the header has {len(header)}; "
                "a tab or a line break inside a text must be a space"
            )
        korean, english = (normalize(cells[place]) for place in places)
        if not korean or not english:
            raise DataError(
                f"{path}, line {number}: nothing in {'en' if korean else 'ko'!r}; "
                "leave out rows that lack one of the two"
            )
        if split is None or split_of(english) == split:
            yield korean, english


def parallel_pairs(places: Iterable[Path], split: Split | None = None) -> Iterator[tuple[str, str]]:
    """The pairs of several files, each once; a folder stands for its ``.tsv`` and ``.tsv.gz``.

    Raises:
        DataError: a folder without such a file; otherwise as :func:`read_pairs`.
    """
    seen: set[tuple[str, str]] = set()
    for file in [file for place in places for file in _files(place)]:
        for pair in read_pairs(file, split):
            if pair not in seen:
                seen.add(pair)
                yield pair


def split_of(english: str) -> Split:
    """The split of an English text: with every Korean text beside it, and in every file.

    Case and white space do not count, so that no text is learned in one and asked in the other.
    """
    digest = hashlib.sha256(normalize(english).casefold().encode("utf-8")).digest()
    return "test" if int.from_bytes(digest[:8], "big") % _TEST_SHARE == 0 else "train"


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    files = sorted(file for file in place.iterdir() if file.name.endswith(_SUFFIXES))
    if not files:
        raise DataError(f"{place} holds no file *{' or *'.join(_SUFFIXES)}")
    return files
