"""Pictures out of embeddings and indexes, as ``kmm embed`` and ``kmm index`` write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kmm_jax.corpus.purge.leftovers import sweep
from kmm_jax.retrieval import index_files, removal, store
from kmm_jax.retrieval.collection import Collection
from kmm_jax.retrieval.purging import Found, Journal, Leaving, Note


class Store:
    """An export of embeddings, finished or not."""

    kind = "embeddings"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = Journal(path)

    def mend(self) -> None:
        """Remove what killed writers of parts left."""
        sweep(self.path)

    def look(self, hashes: frozenset[str]) -> Found:
        """Rows whose id is one of the hashes."""
        if (self.path / store.MANIFEST).is_file():
            store.read_manifest(self.path)
        paths = removal.parts(self.path)
        rows = 0
        leaving = []
        for path in paths:
            ids = removal.ids_of_part(path)
            rows += len(ids)
            leaving += _leaving(path, ids, hashes)
        return Found(
            rows=rows,
            removed=sum(one.removed for one in leaving),
            files=len(paths),
            leaving=tuple(leaving),
            unfinished=self._journal.exists(),
        )

    def remove(self, found: Found, hashes: frozenset[str], note: Note) -> None:
        """Write the parts again, then the manifest; a part without rows stays, empty."""
        if not found.leaving and not found.unfinished:
            return
        whole = (self.path / store.MANIFEST).is_file()
        names = [one.path.name for one in found.leaving]
        files, notes = self._journal.begin(names, note) if whole else (names, [note])
        for one in found.leaving:
            removal.remove_from_part(one.path, _among(hashes))
        if whole:
            removal.refresh_manifest(self.path, files, notes)
        self._journal.end()


class IndexFolder:
    """A search index."""

    kind = "index"

    def __init__(self, path: Path) -> None:
        self.path = path

    def mend(self) -> None:
        """Bring back an index whose replacement was stopped; remove what else that left."""
        removal.restore_index(self.path)

    def look(self, hashes: frozenset[str]) -> Found:
        """Vectors whose id is one of the hashes."""
        ids = removal.ids_of_index(self.path)
        names = (index_files.IDS, index_files.VECTORS)
        leaving = [one for name in names for one in _leaving(self.path / name, ids, hashes)]
        removed = leaving[0].removed if leaving else 0
        return Found(rows=len(ids), removed=removed, files=len(names), leaving=tuple(leaving))

    def remove(self, found: Found, hashes: frozenset[str], note: Note) -> None:
        """Build it again of the vectors that stay; there is no index of none."""
        if found.removed == found.rows:
            removal.discard_index(self.path)
        elif found.removed:
            removal.remove_from_index(self.path, _among(hashes), [note])


class CollectionFolder:
    """An index that grows."""

    kind = "collection"

    def __init__(self, path: Path) -> None:
        self.path = path

    def mend(self) -> None:
        """Remove what a killed change left; it counted for nothing, but it is on the disk."""
        Collection.open(self.path, engine="exact").tidy()

    def look(self, hashes: frozenset[str]) -> Found:
        """Rows whose id is one of the hashes, gone ones that are still on the disk too."""
        segments = Collection.open(self.path, engine="exact").on_disk()
        leaving = [one for folder, ids in segments.items() for one in _leaving(folder, ids, hashes)]
        return Found(
            rows=sum(map(len, segments.values())),
            removed=sum(one.removed for one in leaving),
            files=len(segments),
            leaving=tuple(leaving),
        )

    def remove(self, found: Found, hashes: frozenset[str], note: Note) -> None:
        """Write their segments again."""
        if found.removed:
            Collection.open(self.path).erase(_among(hashes), note)


def _among(hashes: frozenset[str]) -> Callable[[str], bool]:
    return lambda each: _hash_of(each) in hashes


def _hash_of(each: str) -> str:
    """The hash in an id: members of a tar may lie in a folder there."""
    return each.rpartition("/")[2]


def _leaving(path: Path, ids: Sequence[str], hashes: frozenset[str]) -> list[Leaving]:
    gone = [_hash_of(each) for each in ids if _hash_of(each) in hashes]
    if not gone:
        return []
    distinct = tuple(dict.fromkeys(gone))
    return [Leaving(path=path, rows=len(ids), removed=len(gone), hashes=distinct)]
