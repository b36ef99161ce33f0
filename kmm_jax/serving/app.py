"""The service's paths: FastAPI over documents and vectors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from kmm_jax import __version__
from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.searched import Searched, UnavailableError
from kmm_jax.search.document_search import Encoder
from kmm_jax.search.document_view import NoDocumentError
from kmm_jax.search.pictures import PictureFolder
from kmm_jax.search.thumbnail import Known
from kmm_jax.search.thumbnail_ranking import ThumbnailConfig
from kmm_jax.serving import schemas
from kmm_jax.serving.gate import ID, Gate
from kmm_jax.serving.keys import Keys
from kmm_jax.serving.naming import Naming
from kmm_jax.serving.painting import Painter
from kmm_jax.serving.problems import ProblemError, failed, invalid
from kmm_jax.serving.routes import documents, generation, operations, search
from kmm_jax.serving.service import Service
from kmm_jax.serving.settings import Settings
from kmm_jax.serving.telemetry import log

_PAGE = Path(__file__).parent / "page"
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
    search.add_search(app, service)
    documents.add_looks(app, service)
    documents.add_documents(app, service)
    generation.add_generation(app, service)
    search.add_names(app, service)
    operations.add_operations(app, service)

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
        return told(invalid(error.errors()))

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
