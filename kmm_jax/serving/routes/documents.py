"""Documents and their images: as they are, and as a text sees them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Response

from kmm_jax.serving import asking, schemas
from kmm_jax.serving.answers import image_of, jpeg, thumbnails_of
from kmm_jax.serving.problems import ProblemError
from kmm_jax.serving.service import Service

_SIDES = (96, 2_048)

DocumentId = Annotated[str, Query(min_length=1, max_length=512, description="Of a document.")]
ImageHash = Annotated[str, Query(min_length=1, max_length=512, description="Of its image.")]


def add_documents(app: FastAPI, service: Service) -> None:
    """What is served, a document, an image of it."""

    @app.get("/v1/collection", response_model=schemas.Collection, tags=["documents"])
    async def collection() -> schemas.Collection:
        """What is served."""
        view = service.view
        return schemas.Collection(
            documents=len(view),
            images=view.images,
            version=view.version,
            model=service.model_hash,
            columns=view.columns,
            learned=view.learned,
            heat_maps=service.vectors.sees_where and service.has_pictures,
            pictures=service.has_pictures,
            generates=service.painter is not None,
            names=service.naming is not None,
        )

    @app.get("/v1/document", response_model=schemas.ShownDocument, tags=["documents"])
    async def document(id: DocumentId) -> schemas.ShownDocument:
        """A document, whole."""
        view = service.view
        found = await service.work(lambda: view.document(id))
        return schemas.ShownDocument(
            id=found.id,
            title=found.title,
            body=found.body,
            source=found.source,
            time=found.time,
            tags=dict(found.tags),
            images=[image_of(found, each) for each in found.images],
        )

    @app.get(
        "/v1/image",
        tags=["documents"],
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}},
    )
    async def image(
        document: DocumentId,
        hash: ImageHash,
        side: Annotated[int, Query(ge=_SIDES[0], le=_SIDES[1], description="Pixels.")] = 480,
    ) -> Response:
        """A document's image as a JPEG, as large as asked for or smaller."""
        picture = await service.picture(document, hash)
        # Encoded anew: what lies in the folder may be a page that calls itself an image.
        data = await service.work(lambda: jpeg(picture, side))
        return Response(
            data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"}
        )


def add_looks(app: FastAPI, service: Service) -> None:
    """Ways to look at a document's images with a text in mind."""

    @app.post("/v1/thumbnails", response_model=schemas.ThumbnailResponse, tags=["search"])
    async def thumbnails(request: schemas.ThumbnailRequest) -> schemas.ThumbnailResponse:
        """Choose the images of a document that show what a text says; say why others are not."""
        text = asking.said(service, request.text)
        if not text:
            raise ProblemError(422, "invalid", "text: it says nothing")
        view = service.view
        document = await service.work(lambda: view.document(request.document))
        vector = await service.vectors.text(text)
        found = await service.work(lambda: service.choose(view, document, vector, request.most))
        return thumbnails_of(found, service.thumbnails.floor)

    @app.get("/v1/heat", response_model=schemas.HeatResponse, tags=["search"])
    async def heat(
        document: DocumentId,
        hash: ImageHash,
        text: Annotated[str, Query(min_length=1)],
    ) -> schemas.HeatResponse:
        """Where in a document's image a text is seen."""
        if not service.vectors.sees_where:
            raise ProblemError(404, "not_found", "this model makes no heat-maps")
        asked = asking.said(service, text)
        if not asked:
            raise ProblemError(422, "invalid", "text: it says nothing")
        picture = await service.picture(document, hash)
        heat_GG = np.asarray(await service.vectors.heat(picture, asked), np.float64)
        low, high = float(heat_GG.min()), float(heat_GG.max())
        scaled_GG = (heat_GG - low) / (high - low) if high > low else np.zeros_like(heat_GG)
        return schemas.HeatResponse(heat=np.round(scaled_GG, 4).tolist())
