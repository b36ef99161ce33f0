"""Where a build has its tables, written down beside them, so that the report can be made later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kmm_jax.errors import DataError
from kmm_jax.files import read_json, write_json

_NAME = "layout.json"

OF_TEXTS = ("documents", "clicks", "products")
"""Kinds of tables with texts of pictures."""


class File(NamedTuple):
    """A file that was read: number of its source, its path."""

    source: int
    path: str


class Layout(NamedTuple):
    """The work folder of a build.

    Attributes:
        work: the folder.
        buckets: of pictures by key or hash.
        files: those read, by kind: ``pictures``, and each of ``OF_TEXTS``.
    """

    work: Path
    buckets: int
    files: dict[str, list[File]]

    def table(self, kind: str, number: int) -> Path:
        """The table of that kind of a file or bucket."""
        return self.work / kind / f"{number:05d}.parquet"

    @property
    def pictures(self) -> list[File]:
        """The files of pictures."""
        return self.files["pictures"]


def write(work: Path, buckets: int, files: Mapping[str, Sequence[tuple[int, str]]]) -> Layout:
    """Write it down."""
    named = {kind: [File(*file) for file in of_kind] for kind, of_kind in files.items()}
    write_json(work / _NAME, {"buckets": buckets, "files": named})
    return Layout(work, buckets, named)


def read(work: Path) -> Layout:
    """What was written.

    Raises:
        DataError: there is none.
    """
    told: Any = read_json(work / _NAME)
    if not isinstance(told, dict) or "files" not in told:
        raise DataError(
            f"{work / _NAME} is missing or damaged: a report is made of the build's tables; run "
            "kmm corpus build again, which makes one"
        )
    named = {kind: [File(*file) for file in of_kind] for kind, of_kind in told["files"].items()}
    return Layout(work, told["buckets"], named)
