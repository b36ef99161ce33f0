"""What is looked for, and the documents as they are at one moment, which any number may search."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.errors import UserError, nearest
from kmm_jax.retrieval.filters import Where
from kmm_jax.retrieval.searched import Searched
from kmm_jax.retrieval.terms import Term, check_count
from kmm_jax.search.document_store import DocumentStore
from kmm_jax.search.documents import Document, DocumentImage
from kmm_jax.search.fusion import Fusion, Ranking, added, fused
from kmm_jax.search.learned_fusion import DEPTH, MATCHERS, FusionFile, Kind, kind_of
from kmm_jax.search.text_index import TextIndex

DOCUMENT = "document"
_WIDER = 10  # a matcher is asked for so many times what is wanted, and for 100 at least


class NoDocumentError(UserError):
    """There is no document of an id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for.

    Attributes:
        text, image: one of them or both.
        image_vector: (D,), in the place of ``image`` where it is known already.
        like: id of a document whose first image stands in the place of ``image``; it is not found
            itself.
        text_weight: of the text's vector against the image's, where there are both.
        terms: what else it should be like or unlike; words look for the texts of those above 0.
        where: conditions on tags, ``source`` and ``time``, as ``retrieval.filters`` has them.
        fusion, weights: how matchers become one ranking; a matcher of weight 0 is not asked.
            ``learned`` is what was learned from judged queries of these documents.

    Raises:
        UserError: nothing to look for, or an image and ``like``.
    """

    text: str = ""
    image: Image.Image | None = None
    image_vector: np.ndarray | None = None
    like: str = ""
    text_weight: float = 0.5
    terms: Sequence[Term] = ()
    where: Where | None = None
    fusion: Fusion = "rrf"
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        images = (self.image is not None, self.image_vector is not None, bool(self.like))
        check_count(len(self.terms))
        if not self.text.strip() and not any(images) and not self.terms:
            raise UserError("nothing to search for: give a text, an image or both")
        if sum(images) > 1:
            raise UserError("an image and a document to be like: give one of them")
        for name in self.weights:
            if name not in MATCHERS:
                raise UserError(f"no matcher {name!r}; there are {', '.join(MATCHERS)}")

    @property
    def kind(self) -> Kind:
        """What it asks with."""
        text = bool(self.text.strip()) or any(term.text for term in self.terms)
        image = self.image is not None or self.image_vector is not None or bool(self.like)
        return kind_of(text=text, image=image or any(not term.text for term in self.terms))

    @property
    def words(self) -> str:
        """What words are looked for: those of the text and of all terms that it should be like."""
        wanted = (term.text for term in self.terms if term.weight > 0)
        return " ".join(filter(None, (self.text.strip(), *wanted)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DocumentHit:
    """A document that was found, and why.

    Attributes:
        score: the sum of ``parts``.
        parts: what each matcher adds.
        image: the one that matches best, where images were compared and it has any.
    """

    document: Document
    score: float
    parts: dict[str, float]
    image: DocumentImage | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a search found.

    Attributes:
        hits: the best first.
        facets: of each column asked for, how many of all candidates have each value, most first;
            as if there were no condition on that column, so that others can be chosen.
    """

    hits: list[DocumentHit]
    facets: dict[str, dict[Any, int]]


class DocumentView:
    """Documents as their indexes have them at one moment, whatever is changed meanwhile.

    Texts are shown as the store has them when they are asked for; what it no longer has is left
    out.

    Attributes:
        complete: whether all parts of the indexes answered all searches, since `noting`.
    """

    complete: bool = True

    def __init__(
        self,
        store: DocumentStore,
        words: TextIndex,
        titles: Searched,
        images: Searched,
        learned: FusionFile,
    ) -> None:
        """Hold on to what the indexes are now."""
        self.store = store
        self._learned = learned
        self._words, self._titles, self._images = words.pinned(), titles.pinned(), images.pinned()

    def noting(self) -> DocumentView:
        """The same, for one search, after which it says whether that was complete."""
        other = copy.copy(self)
        other.complete = True
        return other

    def __len__(self) -> int:
        """How many documents may be found."""
        return len(self._titles)

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return self._titles.dim

    @property
    def version(self) -> str:
        """Of the indexes and the learned fusion; another one after each change of them."""
        versions = (self._titles.version, self._images.version, self._learned.version)
        return ".".join(str(each) for each in versions if each != "")

    @property
    def learned(self) -> bool:
        """Whether there is a fusion that was learned for these documents and can be used."""
        try:
            self._learned.fusion()
        except UserError:
            return False
        return True

    @property
    def images(self) -> int:
        """How many images may be found."""
        return len(self._images)

    @property
    def columns(self) -> dict[str, str]:
        """What may be filtered by and counted, with the types that Arrow gives it."""
        hidden = ("id", DOCUMENT)
        return {
            name: kind for name, kind in self._titles.column_types.items() if name not in hidden
        }

    def document(self, id: str) -> Document:
        """The document of an id.

        Raises:
            NoDocumentError: there is none.
        """
        found = self.store.get([id])
        if id not in found:
            raise NoDocumentError(f"no document {id!r}")
        return found[id]

    def like(self, id: str) -> np.ndarray:
        """The vector (D,) of a document's first image that has one; of its title without.

        Raises:
            NoDocumentError: no such document, or it is not searched yet.
        """
        vectors = self.image_vectors(self.document(id))
        if vectors:
            return next(iter(vectors.values()))
        if id not in self._titles:
            raise NoDocumentError(f"document {id!r} has no vectors yet")
        return self._titles.vector(id)

    def image_vectors(self, document: Document) -> dict[str, np.ndarray]:
        """Vectors (D,) of a document's images by their hashes, in the order of the document."""
        keys = {each.hash: f"{document.id}/{each.hash}" for each in document.images}
        return {hash: self._images.vector(key) for hash, key in keys.items() if key in self._images}

    def search(
        self, query: Query, vector: np.ndarray, k: int = 10, *, facets: Sequence[str] = ()
    ) -> Answer:
        """The best ``k`` documents.

        Args:
            vector: (D,) of the query's text, image or both.
            facets: columns whose values are counted.

        Raises:
            UserError: ``k`` below 1, conditions that do not fit the tags, no such facet, or a
                learned fusion where none was learned.
            DataError: the learned fusion is damaged.
        """
        if k < 1:
            raise UserError(f"k must be at least 1, found {k}")
        known = self.columns
        for name in facets:
            if name not in known:
                raise UserError(f"no column {name!r} to count{nearest(name, known)}")
        wanted = max(100, _WIDER * k)
        if query.fusion == "learned" and k <= DEPTH:
            wanted = DEPTH
        ranked, best_image = self._ranked(query, vector, wanted)
        best = ranked[:k]
        documents = self.store.get(id for id, _ in best)
        return Answer(
            hits=[
                DocumentHit(
                    document=documents[id],
                    score=sum(parts.values()),
                    parts=parts,
                    image=self._image_of(documents[id], best_image.get(id), query, vector),
                )
                for id, parts in best
                if id in documents
            ],
            facets={
                name: self._facet(name, query, vector, wanted, [id for id, _ in ranked])
                for name in facets
            },
        )

    def _image_of(
        self, document: Document, hash: str | None, query: Query, vector: np.ndarray
    ) -> DocumentImage | None:
        """The image of a hash; where it is not known, the one that matches best."""
        if hash is None and query.weights.get("image", 1.0):
            # Found by its texts; its images are not among the nearest.
            vectors = self.image_vectors(document)
            hash = max(vectors, key=lambda each: float(vectors[each] @ vector), default=None)
        return next((image for image in document.images if image.hash == hash), None)

    def _facet(
        self, name: str, query: Query, vector: np.ndarray, wanted: int, found: list[str]
    ) -> dict[Any, int]:
        if isinstance(query.where, Mapping) and name in query.where:
            others = {each: wish for each, wish in query.where.items() if each != name}
            wider = dataclasses.replace(query, where=others or None)
            found = [id for id, _ in self._ranked(wider, vector, wanted)[0]]
        return self._titles.facet(name, ids=found)

    def _ranked(
        self, query: Query, vector: np.ndarray, wanted: int
    ) -> tuple[list[tuple[str, dict[str, float]]], dict[str, str]]:
        """All candidates, and the image that matches best of those with any."""
        learned = self._learned.fusion() if query.fusion == "learned" else None
        rankings, best_image = self.rankings(query, vector, wanted)
        weights = {name: query.weights.get(name, 1.0) for name in rankings}
        if learned is not None:
            ranked = added(learned.shares(rankings, query.kind), weights)
        else:
            assert query.fusion != "learned"
            ranked = fused(rankings, how=query.fusion, weights=weights)
        return [each for each in ranked if each[0] != query.like], best_image

    def rankings(
        self, query: Query, vector: np.ndarray, wanted: int
    ) -> tuple[dict[str, Ranking], dict[str, str]]:
        """What each matcher that is asked finds, and the hash of each document's best image.

        Args:
            vector: (D,) of the query's text, image or both.
            wanted: the most that each of them finds.
        """
        rankings: dict[str, Ranking] = {}
        best_image: dict[str, str] = {}
        weights = {name: query.weights.get(name, 1.0) for name in MATCHERS}
        if weights["words"] and query.words:
            rankings["words"] = self._by_words(query, wanted)
        if weights["text"] and len(self._titles):
            found = self._titles.search(vector, wanted, where=query.where)
            rankings["text"] = list(zip(found.ids[0], found.scores[0].tolist(), strict=True))
        if weights["image"] and len(self._images):
            rankings["image"], best_image = self._by_images(query, vector, wanted)
        return rankings, best_image

    def _by_words(self, query: Query, wanted: int) -> list[tuple[str, float]]:
        if query.where is None:
            return self._words.search(query.words, wanted)
        allowed = set(self._titles.ids(where=query.where)) if len(self._titles) else set()
        found = self._words.search(query.words, max(1, len(self._words)))
        return [(id, score) for id, score in found if id in allowed][:wanted]

    def _by_images(
        self, query: Query, vector: np.ndarray, wanted: int
    ) -> tuple[list[tuple[str, float]], dict[str, str]]:
        found = self._images.search(vector, wanted, where=self._where_of_images(query.where))
        self.complete = self.complete and found.complete
        ranking: dict[str, float] = {}
        best: dict[str, str] = {}
        for each, score in zip(found.ids[0], found.scores[0].tolist(), strict=True):
            id, _, hash = each.rpartition("/")
            if id not in ranking:
                ranking[id], best[id] = score, hash
        return list(ranking.items()), best

    def _where_of_images(self, where: Where | None) -> Where | None:
        """The same condition for images, which lack the columns that no document with one has.

        They lack a new one, too, between the moments that both indexes took it up.
        """
        if not isinstance(where, Mapping) or where.keys() <= self._images.column_types.keys():
            return where
        return {DOCUMENT: self._titles.ids(where=where) if len(self._titles) else []}
