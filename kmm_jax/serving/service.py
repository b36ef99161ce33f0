"""The parts that answer requests: documents, vectors, threads, and what runs beside them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

import numpy as np
from PIL import Image

from kmm_jax.errors import DataError
from kmm_jax.retrieval.searched import Searched
from kmm_jax.search.document_search import Encoder
from kmm_jax.search.document_view import DocumentView, Query
from kmm_jax.search.documents import Document
from kmm_jax.search.pictures import PictureFolder
from kmm_jax.search.thumbnail import Chooser, Known, Thumbnails
from kmm_jax.search.thumbnail_ranking import ThumbnailConfig
from kmm_jax.serving.library import Library
from kmm_jax.serving.naming import Naming
from kmm_jax.serving.painting import Painter
from kmm_jax.serving.problems import ProblemError
from kmm_jax.serving.settings import Settings
from kmm_jax.serving.telemetry import Metrics, log
from kmm_jax.serving.vectors import TRIED, Vectors

_T = TypeVar("_T")


class Service:
    """Documents and a model at work.

    Attributes:
        vectors: of queries.
        metrics: of all that happens.
        ready: whether requests are answered: all is compiled.
        failure: why it never will be.
        model_hash: names the model.
        painter: makes pictures from prompts; None where no generator was loaded.
        thumbnails: what an image must be to stand for its document.
        naming: names what pictures show; None where no database of names was loaded.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        encoder: Encoder,
        *,
        settings: Settings,
        pictures: PictureFolder,
        painter: Painter | None = None,
        thumbnails: ThumbnailConfig | None = None,
        known: Mapping[str, Known] | None = None,
        images: Searched | None = None,
        naming: Naming | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.ready = False
        self.failure: str | None = None
        self.model_hash = encoder.hash
        self._pictures = pictures
        self.painter, self.naming = painter, naming
        self.thumbnails = thumbnails or ThumbnailConfig()
        self._encoder, self._known = encoder, known
        self._chooser: Chooser | None = None
        self._library = Library(folder, encoder, images)
        self._threads = concurrent.futures.ThreadPoolExecutor(settings.threads, "work")
        self._beside = concurrent.futures.ThreadPoolExecutor(1, "beside")
        self.vectors = Vectors(
            encoder,
            sizes=settings.sizes,
            gather=settings.gather,
            cached=settings.cached,
            tell=lambda kind, count: self.metrics.batch.labels(kind).observe(count),
        )

    @property
    def view(self) -> DocumentView:
        """The documents as they are now; take it once for a request."""
        return self._library.view

    @property
    def has_pictures(self) -> bool:
        """Whether images can be shown."""
        return self._pictures.folder is not None

    async def work(self, function: Callable[[], _T]) -> _T:
        """What a function returns that blocks, on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def picture(self, document: str, hash: str) -> Image.Image:
        """The picture of a document's image.

        Raises:
            ProblemError: it cannot be had.
            NoDocumentError: no such document.
        """
        view = self.view
        found = await self.work(lambda: view.document(document))
        image = next((each for each in found.images if each.hash == hash), None)
        if image is None:
            raise ProblemError(404, "not_found", "the document has no such image")
        try:
            return await self.work(lambda: self._pictures(image))
        except (DataError, OSError, ValueError) as error:
            # Where files lie is nobody's business.
            log("picture cannot be had", level=30, document=document, reason=str(error))
            raise ProblemError(404, "not_found", "the image cannot be had") from error

    def choose(
        self, view: DocumentView, document: Document, vector: np.ndarray, most: int | None
    ) -> Thumbnails:
        """The images of a document that may stand for it under a text's vector (D,); blocks."""
        assert self._chooser is not None, "nothing is asked before it is ready"
        found = view.image_vectors(document)
        first = {image.hash: image for image in reversed(document.images)}
        images = [first[hash] for hash in found]
        vectors = np.stack(list(found.values())) if found else np.zeros((0, view.dim), np.float32)
        return self._chooser.choose(document, images, vectors, vector, most=most)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Warm up, and look for new versions until the block ends."""
        tasks = [asyncio.create_task(self._warm_up()), asyncio.create_task(self._look())]
        try:
            yield
        finally:
            self.ready = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.vectors.close()
            for beside in (self.painter, self.naming):
                if beside is not None:
                    beside.close()
            self._threads.shutdown(wait=False)
            self._beside.shutdown(wait=False)

    async def _warm_up(self) -> None:
        self._count()
        try:
            await self.work(self.vectors.warm_up)
            await self.work(self._first_search)
            self._chooser = await self.work(
                lambda: Chooser(self._encoder, self.thumbnails, known=self._known)
            )
            for beside in (self.painter, self.naming):
                if beside is not None:
                    await self.work(beside.warm_up)
        except Exception as error:
            self.failure = str(error) or type(error).__name__
            log("the model does not run", level=40, error=True)
            return
        self.ready = True
        self.metrics.ready.set(1)
        log("ready", documents=len(self.view), model=self.model_hash)

    def _first_search(self) -> None:
        """The analyser of the words loads for seconds, and indexes are read from the disk."""
        view = self.view
        view.search(Query(text=TRIED), np.ones(view.dim, np.float32))

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.settings.refresh)
            try:
                newer = await loop.run_in_executor(self._beside, self._library.look)
            except Exception:
                # What is served still is; the next look may find it whole.
                self.metrics.failed_looks.inc()
                log("a new version cannot be opened", level=40, error=True)
                continue
            if newer:
                # Of what was purged, perhaps by whoever searched with it.
                self.vectors.forget_pictures()
                self.metrics.versions.inc()
                self._count()
                log("new version", version=self.view.version, documents=len(self.view))

    def _count(self) -> None:
        self.metrics.documents.set(len(self.view))
