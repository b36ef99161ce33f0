"""The smart thumbnail (slide 5.2): for a query, the images of a document that stand for it.

Similarity, and safety and quality by descriptions (``inference.descriptions``), all come from the
vectors that the document's index has: no picture is read. What a classifier of its own says of an
image, such as the scores of a corpus, takes the place of the descriptions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.inference import descriptions
from kmm_jax.retrieval.vectors import unit_rows
from kmm_jax.search.document_search import DocumentSearch, Encoder, Query
from kmm_jax.search.documents import Document, DocumentImage
from kmm_jax.search.thumbnail_ranking import ThumbnailConfig, rank

Reason = Literal["unsafe", "below the floor", "not indexed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a picture otherwise; None where it is not.

    Attributes:
        unsafe: probability that it must not be shown.
        quality: from 0 to 1.

    Raises:
        DataError: a value outside 0 to 1.
    """

    unsafe: float | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        for name in ("unsafe", "quality"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise DataError(f"{name} goes from 0 to 1, found {value}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """An image of the document, as it was judged.

    Attributes:
        similarity: cosine with the query; NaN, like the others, where the index has it not.
        unsafe: probability that it must not be shown.
        quality: from 0 to 1.
        score, parts: of a chosen one; what each term adds (``thumbnail_ranking.TERMS``).
        reason: for which it was not chosen.
    """

    image: DocumentImage
    similarity: float
    unsafe: float
    quality: float
    score: float | None = None
    parts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reason: Reason | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """What became of a document's images.

    Attributes:
        chosen: the best first; none where no picture is better than those there are.
        left_out: those that may not be shown, each with its reason; the most similar of those
            below the floor first.
    """

    document: Document
    chosen: tuple[Seen, ...]
    left_out: tuple[Seen, ...]


class Chooser:
    """Chooses images of a document by their vectors.

    Attributes:
        config: what a thumbnail has to be.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: ThumbnailConfig | None = None,
        *,
        known: Mapping[str, Known] | None = None,
    ) -> None:
        """Embed the descriptions.

        Args:
            known: what is known of images, by their hash.
        """
        self.config = config or ThumbnailConfig()
        self._known = dict(known or {})
        good, bad = zip(*descriptions.QUALITY, strict=True)
        texts = [*descriptions.UNSAFE, *descriptions.SAFE, *good, *bad]
        vectors = unit_rows(encoder.embed_text(texts), "description")
        ends = np.cumsum([len(descriptions.UNSAFE) + len(descriptions.SAFE), len(good)])
        self._safety_TD, self._good_PD, self._bad_PD = np.split(vectors, ends)

    def choose(
        self,
        document: Document,
        images: Sequence[DocumentImage],
        vectors_ND: np.ndarray,
        query_D: np.ndarray,
        *,
        most: int | None = None,
    ) -> Thumbnails:
        """Choose at most ``most`` images of a document for a query.

        Args:
            images: those of its different images that have vectors, in its order.
            vectors_ND, query_D: of length 1.

        Raises:
            ConfigError: ``most`` below 1.
        """
        similarity_N = vectors_ND @ query_D
        unsafe_N, quality_N = self.judged(images, vectors_ND)
        found = rank(
            similarity_N,
            vectors_ND,
            unsafe_N=unsafe_N,
            quality_N=quality_N,
            config=self.config,
            most=most,
        )

        def seen(number: int, reason: Reason | None = None) -> Seen:
            return Seen(
                image=images[number],
                similarity=float(similarity_N[number]),
                unsafe=float(unsafe_N[number]),
                quality=float(quality_N[number]),
                reason=reason,
            )

        chosen = [
            dataclasses.replace(seen(place.image), score=place.score, parts=place.parts)
            for place in found.chosen
        ]
        there = {image.hash for image in images}
        missing = {each.hash: each for each in document.images if each.hash not in there}
        return Thumbnails(
            document=document,
            chosen=tuple(chosen),
            left_out=(
                *(seen(number, "below the floor") for number in found.below),
                *(seen(number, "unsafe") for number in found.unsafe),
                *(_missing(image) for image in missing.values()),
            ),
        )

    def judged(
        self, images: Sequence[DocumentImage], vectors_ND: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """How probably each image is unsafe, and how good it is, both (N,) from 0 to 1."""
        unsafe_N = descriptions.probability(vectors_ND, self._safety_TD, len(descriptions.UNSAFE))
        quality_N = descriptions.goodness(vectors_ND, self._good_PD, self._bad_PD)
        for number, image in enumerate(images):
            known = self._known.get(image.hash, Known())
            if known.unsafe is not None:
                unsafe_N[number] = known.unsafe
            if known.quality is not None:
                quality_N[number] = known.quality
        # Sums of float32 end a little beyond what probabilities can be.
        return np.clip(unsafe_N, 0, 1), np.clip(quality_N, 0, 1)


class Thumbnailer:
    """Chooses images of documents for queries.

    Attributes:
        search: where the documents are.
    """

    def __init__(
        self,
        search: DocumentSearch,
        config: ThumbnailConfig | None = None,
        *,
        known: Mapping[str, Known] | None = None,
    ) -> None:
        """Embed the descriptions.

        Args:
            known: what is known of images, by their hash.
        """
        self.search = search
        self._chooser = Chooser(search.encoder, config, known=known)

    @property
    def config(self) -> ThumbnailConfig:
        """What a thumbnail has to be."""
        return self._chooser.config

    def of(self, document: Document, query: Query, *, most: int | None = None) -> Thumbnails:
        """Choose at most ``most`` images of a document for a query's text, image or both.

        Raises:
            ConfigError: ``most`` below 1.
        """
        images, vectors_ND = self.search.images_of(document)
        query_D = self.search.vector(query)
        return self._chooser.choose(document, images, vectors_ND, query_D, most=most)

    def first(self, document: Document, query: Query) -> Thumbnails:
        """The document's first image whatever it is: what there was before (slide 5.2, ASIS)."""
        images, vectors_ND = self.search.images_of(document)
        if not images or images[0].hash != document.images[0].hash:
            left_out = tuple(_missing(image) for image in document.images[:1])
            return Thumbnails(document=document, chosen=(), left_out=left_out)
        unsafe_N, quality_N = self._chooser.judged(images, vectors_ND)
        similarity = float(vectors_ND[0] @ self.search.vector(query))
        one = Seen(
            image=images[0],
            similarity=similarity,
            unsafe=float(unsafe_N[0]),
            quality=float(quality_N[0]),
            score=similarity,
            parts={"similarity": similarity},
        )
        return Thumbnails(document=document, chosen=(one,), left_out=())


def _missing(image: DocumentImage) -> Seen:
    nothing = math.nan
    return Seen(
        image=image, similarity=nothing, unsafe=nothing, quality=nothing, reason="not indexed"
    )
