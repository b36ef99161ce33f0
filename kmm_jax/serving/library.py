"""The documents that are served, while others change or exchange them.

What another process changes in the folder is seen at the next look. A folder that another one took
the place of (by a rename, or a link that leads elsewhere now) is opened beside the old one. A
request keeps the view that it began with; the old one goes when the last request lets go of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from kmm_jax.retrieval.searched import Searched
from kmm_jax.search.document_search import STORE, DocumentSearch, Encoder, check_documents
from kmm_jax.search.document_view import DocumentView


class Library:
    """A folder of documents at its newest version that works.

    Attributes:
        view: of it; take it once for each request.
    """

    view: DocumentView
    _documents: DocumentSearch
    _opened: tuple[int, ...]

    def __init__(
        self, folder: str | os.PathLike[str], encoder: Encoder, images: Searched | None = None
    ) -> None:
        """Open the folder.

        Args:
            images: an index elsewhere in the place of the folder's own of images.

        Raises:
            DataError: it holds no documents, or is damaged.
            UserError: it belongs to another model.
        """
        self._folder = Path(folder)
        self._encoder, self._images = encoder, images
        self._open()

    def look(self) -> bool:
        """See whether there is a newer version, and serve it; not from two threads at once.

        Raises:
            Exception: it cannot be opened; what was served still is.
        """
        if self._place() != self._opened:
            self._open()
            return True
        view = self._documents.refresh()
        if view.version == self.view.version:
            return False
        self.view = view
        return True

    def _open(self) -> None:
        # By its own name: what this one leads to may change while it is in use.
        folder = self._folder.resolve()
        check_documents(folder)
        place = self._place()
        documents = DocumentSearch(folder, self._encoder, images=self._images)
        self.view = documents.view()
        self._documents, self._opened = documents, place

    def _place(self) -> tuple[int, ...]:
        """Which folder and store it is; a number alone may be given to another one later."""
        found = (self._folder.stat(), (self._folder / STORE).stat())
        return tuple(number for each in found for number in (each.st_dev, each.st_ino))
