"""What was found, as responses have it."""

from __future__ import annotations

import io
import math
from typing import Literal
from urllib.parse import urlencode

from PIL import Image

from kmm_jax.search.document_view import DocumentHit
from kmm_jax.search.documents import Document, DocumentImage
from kmm_jax.search.thumbnail import Thumbnails
from kmm_jax.serving import schemas

_SNIPPET = 240
_REASONS: dict[str, Literal["unsafe", "below_floor", "not_indexed"]] = {
    "unsafe": "unsafe",
    "below the floor": "below_floor",
    "not indexed": "not_indexed",
}


def hit_of(rank: int, hit: DocumentHit) -> schemas.Hit:
    """A document that was found, and why."""
    document = hit.document
    return schemas.Hit(
        rank=rank,
        id=document.id,
        title=document.title,
        body=document.body[:_SNIPPET],
        source=document.source,
        time=document.time,
        tags=dict(document.tags),
        score=hit.score,
        parts=hit.parts,
        image=image_of(document, hit.image) if hit.image else None,
        images=len(document.images),
    )


def thumbnails_of(found: Thumbnails, floor: float | None) -> schemas.ThumbnailResponse:
    """The images that may stand for a document, and why others may not."""
    return schemas.ThumbnailResponse(
        thumbnails=[
            schemas.Thumbnail(
                image=image_of(found.document, each.image),
                score=each.score or 0.0,
                terms=schemas.ThumbnailTerms(**each.parts),
            )
            for each in found.chosen
        ],
        left_out=[
            schemas.LeftOutThumbnail(
                image=image_of(found.document, each.image),
                reason=_REASONS[each.reason or "not indexed"],
                similarity=_number(each.similarity),
                unsafe=_number(each.unsafe),
            )
            for each in found.left_out
        ],
        floor=floor,
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def image_of(document: Document, image: DocumentImage) -> schemas.FoundImage:
    """An image, and where it is sent from."""
    query = urlencode({"document": document.id, "hash": image.hash})
    return schemas.FoundImage(hash=image.hash, caption=image.caption, url=f"/v1/image?{query}")


def jpeg(picture: Image.Image, side: int) -> bytes:
    """A picture of at most ``side`` pixels along a side."""
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
