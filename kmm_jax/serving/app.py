"""The service's paths: FastAPI over documents and vectors."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import numpy as np
from fastapi import FastAPI, Form, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from PIL import Image
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from kmm_jax import __version__
from kmm_jax.errors import DataError, UserError
from kmm_jax.generation.request import Request as Painting
from kmm_jax.generation.restyle import restyling
from kmm_jax.retrieval.regions import checked_box, cropped
from kmm_jax.retrieval.searched import Searched, UnavailableError
from kmm_jax.search.document_search import Encoder
from kmm_jax.search.document_view import DocumentHit, NoDocumentError
from kmm_jax.search.document_view import Query as Asked
from kmm_jax.search.documents import Document, DocumentImage
from kmm_jax.search.pictures import PictureFolder
from kmm_jax.search.thumbnail import Known, Thumbnails
from kmm_jax.search.thumbnail_ranking import ThumbnailConfig
from kmm_jax.serving import asking, schemas, uploads
from kmm_jax.serving.asking import said as _text
from kmm_jax.serving.gate import ID, Gate
from kmm_jax.serving.keys import Keys
from kmm_jax.serving.naming import Naming
from kmm_jax.serving.painting import Painter
from kmm_jax.serving.problems import ProblemError, failed
from kmm_jax.serving.service import Service
from kmm_jax.serving.settings import Settings
from kmm_jax.serving.telemetry import log

_SNIPPET = 240
_SIDES = (96, 2_048)
_PAGE = Path(__file__).parent / "page"
_REASONS: dict[str, Literal["unsafe", "below_floor", "not_indexed"]] = {
    "unsafe": "unsafe",
    "below the floor": "below_floor",
    "not indexed": "not_indexed",
}
_WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.ProblemResponse, "description": what}
    for status, what in (
        (400, "no JSON"),
        (401, "no key"),
        (404, "no such document or image"),
        (405, "no such method"),
        (408, "it came too slowly"),
        (413, "too large"),
        (415, "an image of another kind"),
        (421, "a service without keys answers to localhost only"),
        (422, "a request that cannot be answered"),
        (429, "too many requests"),
        (503, "warming up, or a part of the index does not answer"),
    )
}

DocumentId = Annotated[str, Query(min_length=1, max_length=512, description="Of a document.")]
ImageHash = Annotated[str, Query(min_length=1, max_length=512, description="Of its image.")]


def build(
    folder: str | os.PathLike[str],
    encoder: Encoder,
    *,
    settings: Settings | None = None,
    keys: Keys | None = None,
    pictures: Path | None = None,
    painter: Painter | None = None,
    thumbnails: ThumbnailConfig | None = None,
    known: Mapping[str, Known] | None = None,
    images: Searched | None = None,
    naming: Naming | None = None,
) -> Gate:
    """The service as an ASGI application.

    Args:
        folder: of documents.
        pictures: where the paths of documents' images begin.
        painter: makes pictures from prompts.
        thumbnails: what an image must be to stand for its document.
        known: what is known of images beside what the model says, by their hash.
        images: an index elsewhere in the place of the folder's own of images.
        naming: names what pictures show.

    Raises:
        DataError: no documents, or damaged.
        UserError: they belong to another model.
    """
    settings = settings or Settings()
    service = Service(
        folder,
        encoder,
        settings=settings,
        pictures=PictureFolder(pictures),
        painter=painter,
        thumbnails=thumbnails,
        known=known,
        images=images,
        naming=naming,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="kmm_jax",
        version=__version__,
        summary="Documents found by Korean text, by image, or by both.",
        lifespan=lifespan,
        responses=_WRONG,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    _add_problems(app)
    _add_search(app, service)
    _add_documents(app, service)
    _add_generation(app, service)
    _add_names(app, service)
    _add_operations(app, service)

    @app.get("/page/base.css", include_in_schema=False)
    def base() -> Response:
        style = resources.files("kmm_jax.search").joinpath("base.css").read_bytes()
        return Response(style, media_type="text/css; charset=utf-8")

    paths = {path for route in app.routes if (path := getattr(route, "path", None))}
    app.mount("/page", StaticFiles(directory=_PAGE), name="page")

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return Response((_PAGE / "index.html").read_bytes(), media_type="text/html; charset=utf-8")

    image = settings.upload + (256 << 10)  # with the rest of the request
    return Gate(
        app,
        settings=settings,
        keys=keys or Keys({}),
        metrics=service.metrics,
        paths={*paths, "/"},
        large={
            **dict.fromkeys(("/v1/search", "/v1/generate", "/v1/names"), image * 4 // 3),
            "/v1/search/upload": image,
        },
        ready=lambda: service.ready,
    )


def _add_problems(app: FastAPI) -> None:
    def told(problem: ProblemError) -> Response:
        return Response(problem.body(), problem.status, problem.headers())

    @app.exception_handler(Exception)
    async def _(request: Request, _: Exception) -> Response:
        # Raised again afterwards, so that the gate logs it.
        return told(failed(request.scope[ID]))

    @app.exception_handler(ProblemError)
    async def _(_: Request, problem: ProblemError) -> Response:
        return told(problem)

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> Response:
        return told(_invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> Response:
        return told(ProblemError(error.status_code, "refused", str(error.detail)))

    @app.exception_handler(UnavailableError)
    async def _(_: Request, error: UnavailableError) -> Response:
        log("index does not answer", level=40, reason=str(error))
        return told(
            ProblemError(503, "unavailable", "a part of the index does not answer", retry_after=1)
        )

    @app.exception_handler(UserError)
    async def _(_: Request, error: UserError) -> Response:
        if isinstance(error, DataError):
            raise error  # what is damaged is the service's own, and no mistake of the caller
        missing = isinstance(error, NoDocumentError)
        return told(
            ProblemError(
                404 if missing else 422, "not_found" if missing else "unusable", str(error)
            )
        )


def _invalid(errors: Any) -> ProblemError:
    """What is wrong where; what was sent is not repeated."""
    first = [
        f"{'.'.join(str(each) for each in error['loc'])}: {error['msg']}" for error in errors[:3]
    ]
    return ProblemError(422, "invalid", "; ".join(first))


def _add_search(app: FastAPI, service: Service) -> None:
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
            raise _invalid(error.errors()) from error
        if asked.image is not None:
            raise ProblemError(422, "invalid", "request.image: the image is the file, and no other")
        return await _searched(service, asked, await image.read())

    @app.post("/v1/thumbnails", response_model=schemas.ThumbnailResponse, tags=["search"])
    async def thumbnails(request: schemas.ThumbnailRequest) -> schemas.ThumbnailResponse:
        """Choose the images of a document that show what a text says; say why others are not."""
        text = _text(service, request.text)
        if not text:
            raise ProblemError(422, "invalid", "text: it says nothing")
        view = service.view
        document = await service.work(lambda: view.document(request.document))
        vector = await service.vectors.text(text)
        found = await service.work(lambda: service.choose(view, document, vector, request.most))
        return _thumbnails(found, service.thumbnails.floor)

    @app.get("/v1/heat", response_model=schemas.HeatResponse, tags=["search"])
    async def heat(
        document: DocumentId,
        hash: ImageHash,
        text: Annotated[str, Query(min_length=1)],
    ) -> schemas.HeatResponse:
        """Where in a document's image a text is seen."""
        if not service.vectors.sees_where:
            raise ProblemError(404, "not_found", "this model makes no heat-maps")
        asked = _text(service, text)
        if not asked:
            raise ProblemError(422, "invalid", "text: it says nothing")
        picture = await service.picture(document, hash)
        heat_GG = np.asarray(await service.vectors.heat(picture, asked), np.float64)
        low, high = float(heat_GG.min()), float(heat_GG.max())
        scaled_GG = (heat_GG - low) / (high - low) if high > low else np.zeros_like(heat_GG)
        return schemas.HeatResponse(heat=np.round(scaled_GG, 4).tolist())


def _add_documents(app: FastAPI, service: Service) -> None:
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
            images=[_image(found, each) for each in found.images],
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
        data = await service.work(lambda: _jpeg(picture, side))
        return Response(
            data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"}
        )


def _add_generation(app: FastAPI, service: Service) -> None:
    @app.post("/v1/generate", response_model=schemas.GenerateResponse, tags=["generation"])
    async def generate(request: schemas.GenerateRequest) -> schemas.GenerateResponse:
        """Make a picture from a prompt, or make a given one over."""
        started = time.perf_counter()
        if service.painter is None:
            raise ProblemError(404, "not_found", "no generator is loaded (--generator)")
        prompt, negative = _text(service, request.prompt), _text(service, request.negative)
        if not prompt:
            raise ProblemError(422, "invalid", "prompt: it says nothing")
        seed = secrets.randbelow(1 << 32) if request.seed is None else request.seed
        asked: dict[str, Any] = {
            "negative": negative or None, "steps": request.steps, "guidance": request.guidance
        }  # fmt: skip
        if request.image is None:
            painting = Painting(prompts=(prompt,), seeds=seed, **asked)
        else:
            coded, most = request.image, service.settings.upload
            data = await service.work(lambda: uploads.decoded(coded, most=most))
            painting = restyling(
                await asking.picture_of(service, data),
                prompt,
                side=service.painter.side,
                strength=request.strength,
                seed=seed,
                **asked,
            )
        painted = await service.painter.paint(painting)
        return schemas.GenerateResponse(
            image=f"data:image/png;base64,{base64.b64encode(painted.png).decode()}",
            seed=seed,
            blackened=painted.blackened,
            milliseconds=round(1e3 * (time.perf_counter() - started), 2),
        )


def _add_names(app: FastAPI, service: Service) -> None:
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


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    async def readyz() -> dict[str, str]:
        """Whether requests are answered."""
        if service.failure is not None:
            raise ProblemError(503, "not_ready", f"the model does not run: {service.failure}")
        if not service.ready:
            raise ProblemError(503, "not_ready", "the model is still warming up", retry_after=2)
        return {"status": "ready"}

    @app.get("/metrics", tags=["operations"], response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(
            service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
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
        hits=[_hit(rank, each) for rank, each in enumerate(answer.hits, start=1)],
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


def _hit(rank: int, hit: DocumentHit) -> schemas.Hit:
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
        image=_image(document, hit.image) if hit.image else None,
        images=len(document.images),
    )


def _thumbnails(found: Thumbnails, floor: float | None) -> schemas.ThumbnailResponse:
    return schemas.ThumbnailResponse(
        thumbnails=[
            schemas.Thumbnail(
                image=_image(found.document, each.image),
                score=each.score or 0.0,
                terms=schemas.ThumbnailTerms(**each.parts),
            )
            for each in found.chosen
        ],
        left_out=[
            schemas.LeftOutThumbnail(
                image=_image(found.document, each.image),
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


def _image(document: Document, image: DocumentImage) -> schemas.FoundImage:
    query = urlencode({"document": document.id, "hash": image.hash})
    return schemas.FoundImage(hash=image.hash, caption=image.caption, url=f"/v1/image?{query}")


def _jpeg(picture: Image.Image, side: int) -> bytes:
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
