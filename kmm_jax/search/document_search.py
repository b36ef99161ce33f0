"""Documents found by text, by image or by both (slide 5.1): three matchers and their fusion.

``words`` is BM25 over the texts' morphemes; ``text`` compares the query's text vector with those of
titles, ``image`` with those of all images, of which a document's best one counts. An image in the
query is compared with both.

    documents.sqlite   words/ (Tantivy)   titles/ and images/ (collections)   current.json
    fusion.json (what was learned from judged queries, if anything)
    left_out.json (documents with images that could not be had, if any: tried again each time)
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import read_json, write_json
from kmm_jax.retrieval.collection import Collection
from kmm_jax.retrieval.collection_files import is_collection
from kmm_jax.retrieval.compose import compose
from kmm_jax.retrieval.searched import Searched
from kmm_jax.retrieval.terms import composed
from kmm_jax.search.document_store import Change, DocumentStore
from kmm_jax.search.document_view import DOCUMENT, DocumentHit, DocumentView, Query
from kmm_jax.search.documents import Document, DocumentImage
from kmm_jax.search.learned_fusion import FusionFile, LearnedFusion
from kmm_jax.search.left_out import LeftOut, Missing
from kmm_jax.search.tag_types import TagTypes
from kmm_jax.search.text_index import TextIndex
from kmm_jax.text.styles import Style, style_of

STORE, _CURRENT = "documents.sqlite", "current.json"
_TITLE_STYLE = "title_style"
_BATCH = 256  # documents that become current at a time

Pictures = Callable[[DocumentImage], Image.Image]
"""The picture that a document's image names; DataError or OSError where it cannot be had."""


class Encoder(Protocol):
    """What makes vectors of texts and pictures: ``kmm_jax.load(...)`` or any other.

    Attributes:
        hash: names its weights.
        embedding: dimension of the vectors.
    """

    hash: str

    @property
    def embedding(self) -> int:
        """Dimension of the vectors."""
        ...

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D), of length 1; texts as people ask them."""
        ...

    def embed_image(self, images: Sequence[Any]) -> np.ndarray:
        """(N, D), of length 1."""
        ...


@runtime_checkable
class StyledEncoder(Protocol):
    """An encoder that may tell kinds of texts apart, as a Prompt-CoCa does (slide 3.2).

    Attributes:
        styled: whether it does.
    """

    styled: bool

    def embed_text(self, texts: Sequence[str], style: Style | None = "query") -> np.ndarray:
        """(N, D), of length 1; without a style, texts as people ask them."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caught:
    """What it took to become current.

    Attributes:
        documents: that changed.
        left_out: images that could not be had, with the reason.
    """

    documents: int
    left_out: list[str]


class DocumentSearch:
    """Documents and their indexes in a folder.

    Attributes:
        store: the documents. Change them there or here; `catch_up` brings the indexes to date.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        encoder: Encoder,
        *,
        notes: Mapping[str, Any] | None = None,
        images: Searched | None = None,
    ) -> None:
        """Open a folder, made where it is not there.

        Args:
            notes: kept with a folder that is made, for `notes_of`; JSON values.
            images: searched in the place of the folder's own index of images, with the same ids,
                DOCUMENT/HASH, and columns.

        Raises:
            DataError: something in it is damaged.
            UserError: it belongs to another model.
        """
        self.folder = Path(folder)
        self._encoder = encoder
        self._notes = dict(notes or {})
        self._title_style: Style | None = None
        if isinstance(encoder, StyledEncoder) and encoder.styled:
            self._title_style = style_of("title")
        self.store = DocumentStore(self.folder / STORE)
        words = self.folder / "words"
        self._words = TextIndex.open(words) if words.is_dir() else TextIndex.create(words)
        self._titles = self._collection("titles")
        self._images = self._collection("images")
        self._elsewhere = images
        if images is not None:
            images.check_model(encoder.hash)
        # Titles of one folder have one style; before there was this note they had that of queries.
        self._title_style = self._titles.metadata.get(_TITLE_STYLE)

    def _collection(self, name: str) -> Collection:
        folder, encoder = self.folder / name, self._encoder
        if is_collection(folder):
            return Collection.open(folder, model_hash=encoder.hash)
        notes = dict(self._notes)
        if name == "titles" and self._title_style is not None:
            notes[_TITLE_STYLE] = self._title_style
        return Collection.create(
            folder, model_hash=encoder.hash, dim=encoder.embedding, metadata=notes
        )

    @property
    def _searched_images(self) -> Searched:
        return self._images if self._elsewhere is None else self._elsewhere

    @property
    def encoder(self) -> Encoder:
        """What makes its vectors."""
        return self._encoder

    def put(self, documents: Sequence[Document], pictures: Pictures) -> Caught:
        """Put documents in, in the place of those with their ids, and make them found.

        Raises:
            DataError: a tag has another type than in other documents; none was put in.
        """
        types = self.tag_types(pictures)
        for each in documents:
            types.check(each)
        self.store.put(documents)
        return self.catch_up(pictures)

    def tag_types(self, pictures: Pictures) -> TagTypes:
        """Of the tags that are there; check with it what goes into the store before it does.

        What an earlier change that was cut short left undone is caught up with first.
        """
        self.catch_up(pictures, again=False)
        return TagTypes(self._titles.column_types)

    def delete(self, ids: Sequence[str], pictures: Pictures) -> int:
        """Take documents out; says how many were there."""
        count = self.store.delete(ids)
        self.catch_up(pictures, again=False)
        return count

    def catch_up(
        self,
        pictures: Pictures,
        *,
        again: bool = True,
        tell: Callable[[int, int], None] | None = None,
    ) -> Caught:
        """Bring the indexes to what the store holds; killed meanwhile, the next call goes on.

        An image that cannot be had is left out and named, its document is found by its texts; a
        later call tries it again. One whose hash the document had before keeps its vector.

        Args:
            again: look for images that were left out before, too.
            tell: called with the number of documents done, and of all.
        """
        number, whole = self._current()
        total = self.store.count_after(number)
        count, left_out = 0, []
        waiting = LeftOut(self.folder)
        before = set(waiting.ids)
        for changes in self.store.after(number, most=_BATCH):
            number = changes[-1].number
            # The indexes have the texts and images of these already, but their tags.
            known = [each.document for each in changes if each.document and each.content <= whole]
            rest = [each for each in changes if not each.document or each.content > whole]
            self._retag(known)
            if rest:
                missing = self._apply(rest, pictures)
                left_out += [message for _, message in missing]
                applied = [each.id for each in rest]
                waiting.note(applied, missing)
                before.difference_update(applied)
            # Written last: what was applied and not noted is applied again, to no effect.
            write_json(self.folder / _CURRENT, {"number": number, "whole": whole})
            count += len(changes)
            if tell:
                tell(count, total)
        if number != whole:
            write_json(self.folder / _CURRENT, {"number": number, "whole": number})
        if again:
            left_out += self._try_again(before, waiting, pictures)
        return Caught(documents=count, left_out=left_out)

    def _try_again(self, ids: set[str], waiting: LeftOut, pictures: Pictures) -> list[str]:
        """Look for the images of ``ids`` that were left out; those that still cannot be had."""
        ordered, left_out = sorted(ids), []
        for start in range(0, len(ordered), _BATCH):
            some = ordered[start : start + _BATCH]
            missing = self._apply_images(some, list(self.store.get(some).values()), pictures)
            left_out += [message for _, message in missing]
            waiting.note(some, missing)
        return left_out

    def _current(self) -> tuple[int, int]:
        """The number up to which changes were applied, and up to which all of them were."""
        found = read_json(self.folder / _CURRENT) or {}
        number = int(found.get("number", 0))
        return number, int(found.get("whole", number))

    @property
    def current(self) -> int:
        """The number of the store's change up to which the indexes are."""
        return self._current()[1]

    def _retag(self, documents: Sequence[Document]) -> None:
        """Write the columns of documents anew, beside the vectors that are there."""
        by_id = {each.id: each for each in documents if each.id in self._titles}
        self._rewrite(self._titles, by_id)
        images = {
            key: each
            for each in documents
            for hash in dict.fromkeys(image.hash for image in each.images)
            if (key := f"{each.id}/{hash}") in self._images
        }
        self._rewrite(self._images, images)

    @staticmethod
    def _rewrite(collection: Collection, rows: Mapping[str, Document]) -> None:
        if rows:
            vectors = np.stack([collection.vector(id) for id in rows])
            collection.put(list(rows), vectors, _columns(list(rows.values())))

    def _apply(self, changes: Sequence[Change], pictures: Pictures) -> list[Missing]:
        there = [each.document for each in changes if each.document is not None]
        gone = [each.id for each in changes if each.document is None]
        self._words.change([(each.id, words_of(each)) for each in there], gone)
        self._titles.delete(gone)
        if there:
            vectors = self._title_vectors([each.title for each in there])
            self._titles.put([each.id for each in there], vectors, _columns(there))
        return self._apply_images([each.id for each in changes], there, pictures)

    def _title_vectors(self, titles: Sequence[str]) -> np.ndarray:
        if self._title_style is None or not isinstance(self._encoder, StyledEncoder):
            return self._encoder.embed_text(titles)
        return self._encoder.embed_text(titles, self._title_style)

    def _apply_images(
        self, changed: Sequence[str], documents: Sequence[Document], pictures: Pictures
    ) -> list[Missing]:
        before = (
            set(self._images.ids(where={DOCUMENT: list(changed)})) if len(self._images) else set()
        )
        rows = {
            f"{each.id}/{image.hash}": (each, image) for each in documents for image in each.images
        }
        self._rewrite(self._images, {id: rows[id][0] for id in rows if id in before})
        new, shown, missing = [], [], []
        for id, (document, image) in rows.items():
            if id in before:
                continue
            try:
                shown.append(pictures(image))
            except (DataError, OSError) as error:
                missing.append((document.id, f"{document.id}, {image.path}: {error}"))
            else:
                new.append(id)
        if new:
            columns = _columns([rows[id][0] for id in new])
            self._images.put(new, self._encoder.embed_image(shown), columns)
        self._images.delete(before - set(rows))
        return missing

    def search(self, query: Query, k: int = 10) -> list[DocumentHit]:
        """The best ``k`` documents.

        Raises:
            UserError: ``k`` below 1, conditions that do not fit the tags, or no such document.
        """
        view = self.view()
        return view.search(query, self.vector(query, view), k).hits

    def view(self) -> DocumentView:
        """The documents as their indexes are now, which later changes leave as it is."""
        learned = FusionFile(self.folder, self._encoder.hash)
        return DocumentView(self.store, self._words, self._titles, self._searched_images, learned)

    def learn(self, fusion: LearnedFusion) -> None:
        """Keep a learned fusion with the documents, in the place of the one before.

        Raises:
            UserError: it was learned from another model's scores.
        """
        if fusion.model_hash != self._encoder.hash:
            raise UserError(
                f"this fusion was learned from the scores of model {fusion.model_hash}, the "
                f"documents have {self._encoder.hash}"
            )
        fusion.save(FusionFile(self.folder, fusion.model_hash).path)

    def refresh(self) -> DocumentView:
        """See what other processes changed: a view of it."""
        self._titles.refresh()
        self._images.refresh()
        return self.view()

    def vector(self, query: Query, view: DocumentView | None = None) -> np.ndarray:
        """Of a query's text and image, one or both, and its terms, (D,) of length 1.

        Args:
            view: where a document is that others are to be like.
        """
        text = self._encoder.embed_text([query.text])[0] if query.text.strip() else None
        image = query.image_vector
        if query.like:
            image = (view or self.view()).like(query.like)
        elif query.image is not None:
            image = self._encoder.embed_image([query.image])[0]
        if not query.terms:
            return compose(text, image, query.text_weight)
        begins = text is not None or image is not None
        base = compose(text, image, query.text_weight) if begins else None
        return composed(base, query.terms, self._encoder)

    def images_of(self, document: Document) -> tuple[list[DocumentImage], np.ndarray]:
        """A document's different images that could be had, in its order, with their vectors (N, D).

        An image is known by its hash: of several alike the first is given.
        """
        index = self._searched_images
        found, rows = [], []
        for image in dict.fromkeys(image.hash for image in document.images):
            id = f"{document.id}/{image}"
            if id in index:
                found.append(next(each for each in document.images if each.hash == image))
                rows.append(index.vector(id))
        return found, np.stack(rows) if rows else np.zeros((0, index.dim), np.float32)


def check_documents(folder: str | os.PathLike[str]) -> None:
    """See to it that a folder holds documents.

    Raises:
        DataError: it does not.
    """
    place = Path(folder)
    if not (place / STORE).is_file() or not is_collection(place / "titles"):
        raise DataError(f"{place} holds no documents; kmm documents add makes such a folder")


def notes_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What was noted when a folder of documents was made.

    Raises:
        DataError: no such folder.
    """
    check_documents(folder)
    return Collection.open(Path(folder) / "titles", engine="exact").metadata


def words_of(document: Document) -> dict[str, str]:
    """The texts of a document by the fields of its words' index."""
    captions = (image.caption for image in document.images)
    body = "\n".join([document.body, *filter(None, captions)])
    return {"title": document.title, "body": body}


def _columns(documents: Sequence[Document]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for each in documents for name in each.tags)
    columns: dict[str, list[Any]] = {
        name: [
            list(value) if isinstance(value := each.tags.get(name), tuple) else value
            for each in documents
        ]
        for name in names
    }
    return {
        **columns,
        DOCUMENT: [each.id for each in documents],
        "source": [each.source for each in documents],
        # Arrow has one zone for a column.
        "time": [each.time and each.time.astimezone(datetime.UTC) for each in documents],
    }
