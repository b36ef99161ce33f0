"""Search, by what is typed and what is sent; and the names of what a picture shows."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import FastAPI, Form, UploadFile
from pydantic import ValidationError

from kmm_jax.retrieval.regions import checked_box, cropped
from kmm_jax.search.document_view import Query as Asked
from kmm_jax.serving import asking, schemas, uploads
from kmm_jax.serving.answers import hit_of
from kmm_jax.serving.problems import ProblemError, invalid
from kmm_jax.serving.service import Service


def add_search(app: FastAPI, service: Service) -> None:
    """Documents by a text, an image or both."""

    @app.post("/v1/search", response_model=schemas.SearchResponse, tags=["search"])
    async def search(request: schemas.SearchRequest) -> schemas.SearchResponse:
        """Find documents by a text, an image or both."""
        data = None
        if request.image is not None:
            most = service.settings.upload
            data = await service.work(lambda: uploads.decoded(request.image or "", most=most))
        return await _searched(service, request, data)

    @app.post("/v1/search/upload", response_model=schemas.SearchResponse, tags=["search"])
    async def search_upload(
        image: UploadFile,
        request: Annotated[
            str, Form(description="A SearchRequest without image, as JSON.", max_length=65_536)
        ] = "{}",
    ) -> schemas.SearchResponse:
        """Find documents by an image that is sent as a file, and a text if there is one."""
        try:
            asked = schemas.SearchRequest.model_validate_json(request)
        except ValidationError as error:
            raise invalid(error.errors()) from error
        if asked.image is not None:
            raise ProblemError(422, "invalid", "request.image: the image is the file, and no other")
        return await _searched(service, asked, await image.read())


def add_names(app: FastAPI, service: Service) -> None:
    """Names of pictures, where a database of them is loaded."""

    @app.post("/v1/names", response_model=schemas.NamesResponse, tags=["search"])
    async def names(request: schemas.NamesRequest) -> schemas.NamesResponse:
        """Name what a picture shows."""
        started = time.perf_counter()
        if service.naming is None:
            raise ProblemError(404, "not_found", "no database of names is loaded (--names)")
        box = None if request.box is None else checked_box(request.box)
        data = await service.work(
            lambda: uploads.decoded(request.image, most=service.settings.upload)
        )
        picture = await asking.picture_of(service, data)
        if box is not None:
            picture = cropped(picture, box)
        found = await service.naming.names(picture, most=request.k)
        return schemas.NamesResponse(
            names=[
                schemas.FoundName(name=each.name, probability=each.probability, score=each.score)
                for each in found.names
            ],
            none=found.none,
            known=found.known,
            milliseconds=round(1e3 * (time.perf_counter() - started), 2),
        )


async def _searched(
    service: Service, request: schemas.SearchRequest, data: bytes | None
) -> schemas.SearchResponse:
    started = time.perf_counter()
    view = service.view.noting()
    found = await asking.sought(service, view, request, data)
    asked = Asked(
        text=found.text,
        image_vector=found.image,
        like=request.like or "",
        terms=found.terms,
        where=_where(request.where) or None,
        fusion=request.fusion,
        weights=request.weights.model_dump(),
    )
    answer = await service.work(
        lambda: view.search(asked, found.vector, request.k, facets=request.facets)
    )
    if not view.complete:
        service.metrics.incomplete.inc()
    return schemas.SearchResponse(
        hits=[hit_of(rank, each) for rank, each in enumerate(answer.hits, start=1)],
        facets={
            name: [schemas.FacetCount(value=value, count=count) for value, count in counts.items()]
            for name, counts in answer.facets.items()
        },
        complete=view.complete,
        box=None if found.box is None else list(found.box),
        version=view.version,
        milliseconds=round(1e3 * (time.perf_counter() - started), 2),
    )


def _where(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: each.model_dump(by_alias=True, exclude_unset=True)
        if isinstance(each, schemas.Condition)
        else each
        for name, each in given.items()
    }
