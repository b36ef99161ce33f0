"""Which documents have images that could not be had, written down to be tried again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from kmm_jax.files import read_json, write_json

Missing = tuple[str, str]
"""The id of a document with an image that could not be had, and why."""


class LeftOut:
    """In a file of their own in the folder of the documents.

    Attributes:
        ids: of these documents.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "left_out.json"
        self.ids = set((read_json(self._path) or {}).get("documents", ()))

    def note(self, done: Collection[str], missing: Sequence[Missing]) -> None:
        """The documents ``done`` were looked at, and these images are missing of them."""
        now = self.ids.difference(done) | {id for id, _ in missing}
        if now != self.ids:
            write_json(self._path, {"documents": sorted(now)})
        self.ids = now
