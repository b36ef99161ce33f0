"""What a purge's targets are: told by what lies there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmm_jax.corpus.purge.corpus import Corpus
from kmm_jax.corpus.purge.tars import TarSet
from kmm_jax.corpus.purge.vectors import CollectionFolder, IndexFolder, Store
from kmm_jax.data.patterns import expand
from kmm_jax.data.storage import is_url
from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval import index_files, removal, store
from kmm_jax.retrieval.collection_files import MANIFEST, is_collection
from kmm_jax.retrieval.purging import Found, Note, Target

_CORPUS = "kmm_jax corpus "
_EMBEDDINGS = "kmm_jax embeddings "


class Gone:
    """What an earlier purge left nothing of."""

    kind = "purged away"

    def __init__(self, path: Path) -> None:
        self.path = path

    def mend(self) -> None:
        """Nothing to bring back."""

    def look(self, hashes: frozenset[str]) -> Found:
        """No rows."""
        return Found(rows=0, removed=0, files=0, leaving=())

    def remove(self, found: Found, hashes: frozenset[str], note: Note) -> None:
        """Nothing to remove."""


def detect(
    given: str, receipts: Path, others: Callable[[Path], Target | None] = lambda path: None
) -> Target:
    """The target that a path names.

    - a corpus's folder, or the folder ``shards`` in it;
    - embeddings as ``kmm embed`` writes them, whole or not;
    - an index as ``kmm index build`` writes it, or a collection as ``kmm index add`` does;
    - tars: one, a folder of them, a glob, a brace range;
    - what ``others`` make of it;
    - where nothing is left: something that a purge with a receipt in ``receipts`` took away.

    Raises:
        UserError: nothing of these kinds is there.
    """
    if is_url(given):
        raise UserError(
            f"{given}: a purge works on local disks, where a file is replaced at once; run it "
            "where the files are, or copy them, purge the copy and put it in their place"
        )
    path = Path(given).expanduser()
    aside = path.with_name(f".{path.name}.old") if path.name else path
    if any((folder / index_files.INDEX).is_file() for folder in (path, aside)):
        return IndexFolder(path)
    if (other := others(path)) is not None:
        return other
    if is_collection(path):
        return CollectionFolder(path)
    if _format(path).startswith(_EMBEDDINGS) or (path.is_dir() and removal.parts(path)):
        return Store(path)
    if _is_corpus(path):
        return Corpus(path)
    try:
        shards = [Path(shard) for shard in expand(given)]
    except DataError as error:
        if was_purged_away(receipts, path):
            return Gone(path)
        raise UserError(
            f"{given}: nothing to purge there; name a corpus's folder, embeddings "
            f"({store.MANIFEST} and parts), an index ({index_files.INDEX}), a collection "
            f"({MANIFEST}), documents or tars ({error})"
        ) from error
    for folder in sorted({shard.parent for shard in shards}):
        if _is_corpus(folder):
            raise UserError(
                f"{given} belongs to the corpus in {folder}, whose manifest must change with its "
                "shards; name the corpus's folder"
            )
    return TarSet(path, shards)


def was_purged_away(receipts: Path, path: Path) -> bool:
    """Whether a receipt tells of a purge that left nothing at ``path``."""
    for file in sorted(receipts.glob("purge-*.json")):
        try:
            targets: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["targets"]
        except (OSError, ValueError, KeyError):
            continue
        for target in targets:
            emptied = target["removed"] == target["rows_before"]
            if target["path"] == str(path.absolute()) and emptied:
                return True
    return False


def _is_corpus(path: Path) -> bool:
    return (
        _format(path).startswith(_CORPUS)
        or _format(path / "shards").startswith(_CORPUS)
        or (path / "work" / "facts").is_dir()
    )


def _format(folder: Path) -> str:
    """What the manifest in a folder says it is of."""
    try:
        found = json.loads((folder / "manifest.json").read_text("utf-8"))
        return str(found["format"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
