"""From a search request to its vector: texts, pictures or parts of them, and the terms beside."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from kmm_jax.data.boxes import Box
from kmm_jax.retrieval.compose import NEUTRAL, compose
from kmm_jax.retrieval.regions import checked_box, cropped, located
from kmm_jax.retrieval.terms import Term, summed
from kmm_jax.search.document_view import DocumentView
from kmm_jax.serving import schemas, uploads
from kmm_jax.serving.problems import ProblemError
from kmm_jax.serving.service import Service
from kmm_jax.text.normalize import normalize

_MOST_IMAGES = 4  # of a request; each is decoded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sought:
    """What a request looks for.

    Attributes:
        vector: (D,), of all of it.
        text: in words.
        terms: beside it, texts as such and all else as vectors.
        image: (D,), of the picture that was sent; None where there is none.
        box: of the picture, the part that was looked at; None for all of it.
    """

    vector: np.ndarray
    text: str
    terms: Sequence[Term]
    image: np.ndarray | None
    box: Box | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """What of a picture counts, as a request says it."""

    box: Sequence[float] | None
    locate: str
    whole: float = 0.0

    def __bool__(self) -> bool:
        return self.box is not None or bool(self.locate)


def said(service: Service, text: str) -> str:
    """The text as it is searched for; decomposed Hangul and invisible characters are mended.

    Raises:
        ProblemError: it is too long.
    """
    if len(text) > service.settings.text:
        raise ProblemError(
            422, "too_long", f"a text has at most {service.settings.text:,} characters here"
        )
    return normalize(text)


async def sought(
    service: Service, view: DocumentView, request: schemas.SearchRequest, data: bytes | None
) -> Sought:
    """What a request looks for, once its vectors are computed.

    Args:
        data: of the picture that was sent.

    Raises:
        ProblemError: nothing to look for, or too much of it.
        UserError: boxes that are none, or terms that cancel each other.
    """
    text = said(service, request.text)
    part = _part(service, request.box, request.locate, request.whole)
    has_picture = data is not None or request.like is not None
    if not text and not has_picture and not request.terms:
        raise ProblemError(422, "invalid", "nothing to search for: give a text, an image or both")
    if data is not None and request.like is not None:
        raise ProblemError(422, "invalid", "an image and a document to be like: give one of them")
    if part and not has_picture:
        raise ProblemError(422, "invalid", "box and locate are parts of a picture: give it, too")
    images = sum(each.image is not None for each in request.terms) + (data is not None)
    if images > _MOST_IMAGES:
        raise ProblemError(422, "invalid", f"a request has at most {_MOST_IMAGES} images")
    text_D, (image_D, box), terms = await asyncio.gather(
        _of_text(service, text),
        _of_picture(service, view, data, request.like, part),
        asyncio.gather(*(_term(service, view, each) for each in request.terms)),
    )
    begins = text_D is not None or image_D is not None
    vector_D = compose(text_D, image_D, request.text_weight) if begins else None
    if terms:
        vectors = [vector for _, vector in terms]
        neutral = await _neutral(service) if any(term.text for term, _ in terms) else None
        vector_D = summed(vector_D, [term for term, _ in terms], vectors, neutral=neutral)
    assert vector_D is not None
    return Sought(
        vector=vector_D,
        text=text,
        terms=[term for term, _ in terms],
        image=image_D if data is not None else None,
        box=box,
    )


async def picture_of(service: Service, data: bytes) -> Image.Image:
    """The picture in what was sent.

    Raises:
        ProblemError: it is none, or too large.
    """
    settings = service.settings
    return await service.work(
        lambda: uploads.opened(data, most=settings.upload, pixels=settings.pixels)
    )


def _part(service: Service, box: Sequence[float] | None, locate: str, whole: float = 0.0) -> _Part:
    text = said(service, locate)
    if box is not None and text:
        raise ProblemError(422, "invalid", "box and locate: give one of them")
    if text and not service.vectors.sees_where:
        raise ProblemError(422, "unusable", "locate: this model makes no heat-maps; give a box")
    return _Part(box=None if box is None else checked_box(box), locate=text, whole=whole)


async def _term(
    service: Service, view: DocumentView, term: schemas.Term
) -> tuple[Term, np.ndarray]:
    text = said(service, term.text)
    if sum((bool(text), term.image is not None, term.like is not None)) != 1:
        raise ProblemError(
            422, "invalid", "terms: each is a text, an image or a document to be like; one of them"
        )
    part = _part(service, term.box, term.locate)
    if text and part:
        raise ProblemError(422, "invalid", "terms: box and locate are parts of a picture")
    if text:
        vector = await service.vectors.text(text)
        return Term(text=text, weight=term.weight), vector
    data = None
    if term.image is not None:
        coded, most = term.image, service.settings.upload
        data = await service.work(lambda: uploads.decoded(coded, most=most))
    found, _ = await _of_picture(service, view, data, term.like, part)
    assert found is not None
    return Term(vector=found, weight=term.weight), found


async def _of_text(service: Service, text: str) -> np.ndarray | None:
    return await service.vectors.text(text) if text else None


async def _of_picture(
    service: Service, view: DocumentView, data: bytes | None, like: str | None, part: _Part
) -> tuple[np.ndarray | None, Box | None]:
    """The vector of a picture, or of a part of it, and which part that is."""
    if like is not None and not part:
        return await service.work(lambda: view.like(like)), None
    if data is None and like is None:
        return None, None
    if data is not None:
        digest = hashlib.sha256(data).digest()
        if not part and (known := service.vectors.known(digest)) is not None:
            return known, None
        picture = await picture_of(service, data)
    else:
        id = like or ""
        found = await service.work(lambda: next(iter(view.image_vectors(view.document(id))), ""))
        digest = hashlib.sha256(f"{id}/{found}".encode()).digest()
        picture = await service.picture(id, found)
    if not part:
        return await service.vectors.image(picture, digest), None
    box = part.box
    if part.locate:
        heat_GG = await service.vectors.heat(picture, part.locate)
        box = located(heat_GG, picture.size) or (0.0, 0.0, 1.0, 1.0)
    assert box is not None
    x0, y0, x1, y1 = box
    cut = cropped(picture, box)
    vector = await service.vectors.image(cut, digest + repr(tuple(box)).encode())
    if part.whole:
        whole = await service.vectors.image(picture, digest)
        vector = compose(vector, whole, 1 - part.whole)
    return vector, (x0, y0, x1, y1)


async def _neutral(service: Service) -> np.ndarray:
    rows = await asyncio.gather(*(service.vectors.text(text) for text in NEUTRAL))
    return np.stack(rows).mean(axis=0)
