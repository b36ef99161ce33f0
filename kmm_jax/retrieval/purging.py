"""What pictures are purged from, and what a purge finds there before anything is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kmm_jax.files import write_json

Note = Mapping[str, str]
"""What a target keeps of a purge: the name of its receipt and the date."""


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """A file that rows leave.

    Attributes:
        rows: it holds.
        removed: how many leave.
        hashes: of those, each once.
    """

    path: Path
    rows: int
    removed: int
    hashes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a purge will do to a target.

    Attributes:
        rows, removed: in all its files.
        files: how many it has.
        leaving: those of them that rows leave.
        work_only: hashes that a corpus has seen and that are in none of its shards.
        unfinished: an earlier purge was stopped here, and what it changed is not written down.
    """

    rows: int
    removed: int
    files: int
    leaving: tuple[Leaving, ...]
    work_only: tuple[str, ...] = ()
    unfinished: bool = False


class Target(Protocol):
    """Something that pictures are removed from."""

    kind: str
    path: Path

    def mend(self) -> None:
        """Bring back what was moved aside by something that was killed."""
        ...

    def look(self, hashes: frozenset[str]) -> Found:
        """Find the rows; nothing is changed.

        Raises:
            DataError: a file is missing, truncated or damaged.
        """
        ...

    def remove(self, found: Found, hashes: frozenset[str], note: Note) -> None:
        """Remove them; every file is the old or the new one at any moment."""
        ...


class Journal:
    """In a folder with a manifest: which files a purge changes, until the manifest says so too."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".purging"

    def exists(self) -> bool:
        """Whether a purge was stopped."""
        return self._path.exists()

    def begin(self, names: Sequence[str], note: Note) -> tuple[list[str], list[Note]]:
        """The files and notes of this purge and of those stopped before it; written down."""
        held: dict[str, list[Any]] = {"files": [], "notes": []}
        if self.exists():
            held = json.loads(self._path.read_text("utf-8"))
        files = list(dict.fromkeys([*held["files"], *names]))
        notes = [*held["notes"], dict(note)]
        write_json(self._path, {"files": files, "notes": notes})
        return files, notes

    def end(self) -> None:
        """The manifest says it all."""
        self._path.unlink(missing_ok=True)
