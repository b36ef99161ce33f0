"""Where a build has its tables, written down beside them, so that the report can be made later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kmm_jax.corpus import tables
from kmm_jax.corpus.sampling import evenly
from kmm_jax.errors import DataError
from kmm_jax.files import read_json, write_json

_NAME = "layout.json"

OF_TEXTS = ("documents", "clicks", "products")
"""Kinds of tables with texts of pictures."""

MOST_FILES = 200
"""Of more files of a kind than this, so many, spread over all, stand for them."""

_OF_PICTURES = ("facts", "beside", "scored", "judged")
_OF_BUCKETS = ("joined", "merged")


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
    found = Layout(work, buckets, named)
    write_json(work / _NAME, {"buckets": buckets, "files": named, "tables": _state(found)})
    return found


def judged(layout: Layout) -> str:
    """Tells the judged tables from others; shards are made of these."""
    marks = [
        tables.about(layout.table("judged", number)).get("fingerprint")
        for number in range(len(layout.pictures))
    ]
    return tables.digest(marks)


def _state(layout: Layout) -> str:
    """Tells the tables that a report reads from those of another build."""
    kinds = [(kind, len(layout.pictures)) for kind in _OF_PICTURES]
    kinds += [(kind, len(layout.files.get(kind, ()))) for kind in OF_TEXTS]
    kinds += [(kind, layout.buckets) for kind in _OF_BUCKETS]
    marks = [
        [kind, number, tables.about(layout.table(kind, number)).get("fingerprint")]
        for kind, count in (*kinds, ("dropped", 1))
        for number in evenly(range(count), MOST_FILES)
    ]
    return tables.digest(marks)


def read(work: Path) -> Layout:
    """What was written.

    Raises:
        DataError: there is none, or a build that came after it is not finished.
    """
    told: Any = read_json(work / _NAME)
    if not isinstance(told, dict) or "files" not in told:
        raise DataError(
            f"{work / _NAME} is missing or damaged: a report is made of the build's tables; run "
            "kmm corpus build again, which makes one"
        )
    named = {kind: [File(*file) for file in of_kind] for kind, of_kind in told["files"].items()}
    found = Layout(work, told["buckets"], named)
    # Earlier builds did not note it.
    if told.get("tables") not in (None, _state(found)):
        raise DataError(
            f"some tables in {work} are gone, or of a build that is not finished: a report would "
            "mix them with those of the build before; finish it first (kmm corpus build with the "
            "same arguments), which makes a report as well"
        )
    return found
