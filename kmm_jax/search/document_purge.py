"""Pictures out of documents and all their indexes, by hash, on the disk too.

A document stays without them, found by its texts; where that is asked for it goes altogether. The
store comes last: killed before, the same purge finds it all again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kmm_jax.errors import DataError
from kmm_jax.retrieval.collection import Collection
from kmm_jax.retrieval.purging import Found, Journal, Leaving, Note
from kmm_jax.search.document_search import STORE, check_documents, words_of
from kmm_jax.search.document_store import DocumentStore, without_images
from kmm_jax.search.documents import Document
from kmm_jax.search.text_index import TextIndex

_INDEXES = ("titles", "images")


def documents_in(path: Path, *, whole: bool = False) -> DocumentsFolder | None:
    """A folder of documents to purge; None where a path is none.

    Args:
        whole: take documents with such a picture out altogether.
    """
    try:
        check_documents(path)
    except DataError:
        return None
    return DocumentsFolder(path, whole=whole)


class DocumentsFolder:
    """Documents, and the indexes of their words, titles and images.

    The pictures' own files, which documents name by their paths, are not among what is purged.
    """

    kind = "documents"

    def __init__(self, path: Path, *, whole: bool = False) -> None:
        self.path = path
        self._whole = whole
        self._journal = Journal(path)

    def mend(self) -> None:
        """Remove what killed changes left; it counted for nothing, but it is on the disk."""
        for name in _INDEXES:
            self._open(name).tidy()

    def look(self, hashes: frozenset[str]) -> Found:
        """Images of documents whose hash is one of these, and rows of them in the index."""
        store = DocumentStore(self.path / STORE)
        try:
            rows, gone = 0, []
            for each in store.all():
                rows += len(each.images)
                gone += [image.hash for image in each.images if image.hash in hashes]
        finally:
            store.close()
        leaving = []
        if gone:
            distinct = tuple(dict.fromkeys(gone))
            leaving.append(Leaving(path=store.path, rows=rows, removed=len(gone), hashes=distinct))
        on_disk = self._open("images").on_disk()
        for file, ids in on_disk.items():
            if here := [hash for id in ids if (hash := _hash_of(id)) in hashes]:
                distinct = tuple(dict.fromkeys(here))
                leaving.append(
                    Leaving(path=file, rows=len(ids), removed=len(here), hashes=distinct)
                )
        return Found(
            rows=rows,
            removed=len(gone),
            files=1 + len(on_disk),
            leaving=tuple(leaving),
            unfinished=self._journal.exists(),
        )

    def remove(self, found: Found, hashes: frozenset[str], note: Note) -> None:
        """Take them out of the indexes, then out of the store."""
        store = DocumentStore(self.path / STORE)
        try:
            # First of all: what is added after a kill must not bring anything back.
            store.refuse(hashes)
            if not found.leaving and not found.unfinished:
                return
            self._journal.begin([one.path.name for one in found.leaving], note)
            marked = [each for each in store.all() if _has(each, hashes)]
            gone = frozenset(each.id for each in marked) if self._whole else frozenset[str]()
            self._erase(
                "images", lambda id: _hash_of(id) in hashes or _document_of(id) in gone, note
            )
            self._erase("titles", lambda id: id in gone, note)
            if gone or found.unfinished or any(_is_said(each, hashes) for each in marked):
                kept = (without_images(each, hashes) for each in store.all() if each.id not in gone)
                TextIndex.open(self.path / "words").rewrite(
                    (each.id, words_of(each)) for each in kept
                )
            store.purge(
                [without_images(each, hashes) for each in marked if each.id not in gone], gone
            )
            self._journal.end()
        finally:
            store.close()

    def _open(self, name: str) -> Collection:
        return Collection.open(self.path / name, engine="exact")

    def _erase(self, name: str, is_gone: Callable[[str], bool], note: Note) -> None:
        # With the engine that the collection asks for, as its segments are written again.
        Collection.open(self.path / name).erase(is_gone, note)


def _hash_of(id: str) -> str:
    """The hash in the id of an image's row."""
    return id.rpartition("/")[2]


def _document_of(id: str) -> str:
    return id.rpartition("/")[0]


def _has(document: Document, hashes: frozenset[str]) -> bool:
    return any(image.hash in hashes for image in document.images)


def _is_said(document: Document, hashes: frozenset[str]) -> bool:
    """Whether such an image has a caption, which the words' index holds."""
    return any(image.caption for image in document.images if image.hash in hashes)
