"""A service on a real socket, in a thread of the tests, and documents to serve."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.generation.pipeline import Generated
from kmm_jax.generation.request import Request
from kmm_jax.search.document_search import DocumentSearch
from kmm_jax.search.documents import document
from kmm_jax.search.pictures import PictureFolder
from kmm_jax.serving.app import build
from kmm_jax.serving.keys import Keys
from kmm_jax.serving.server import listening, server
from kmm_jax.serving.settings import Settings
from tests.search.colors import COLORS, Colors

THINGS = ("셔츠", "바지", "모자", "치마", "우산")


class Seeing(Colors):
    """Colours, with heat-maps, that counts its batches and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[int] = []

    def embed_text(self, texts: Any) -> np.ndarray:
        self.batches.append(len(texts))
        time.sleep(self.seconds)
        return super().embed_text(texts)

    def heat_map(self, images: Any, texts: Any) -> np.ndarray:
        return np.arange(4.0 * len(images)).reshape(len(images), 2, 2)


class Blue:
    """A generator of blue pictures, that counts what it is asked to compile."""

    side = 16

    def __init__(self) -> None:
        self.compiled: list[Request] = []

    def compile(self, request: Request, *, progress: bool = False) -> int:
        self.compiled.append(request)
        return 1

    def generate(self, request: Request, *, progress: Any = None) -> Generated:
        images = np.zeros((1, 16, 16, 3), np.uint8)
        images[..., 2] = 255
        if request.image is not None:  # half of what was there stays
            images = (images // 2 + np.asarray(request.image)[None] // 2).astype(np.uint8)
        settings = {"prompt": request.prompts[0], "seed": request.seeds}
        return Generated(images=images, latents=np.zeros((1, 2, 2, 4)), settings=[settings])


def make_documents(folder: Path, photos: Path) -> DocumentSearch:
    """Every thing in every colour, with a picture of that colour; tags to filter and count by."""
    photos.mkdir(exist_ok=True)
    for name, color in COLORS.items():
        Image.new("RGB", (40, 24), color).save(photos / f"{name}.png")
    found = DocumentSearch(folder, Colors())
    rows = [
        {
            "id": f"{color}-{thing}",
            "title": f"{color} {thing}",
            "body": f"{thing} 이야기",
            "source": "shop" if number % 2 else "blog",
            "time": f"2026-11-{10 + number:02d}T09:00:00+09:00",
            "tags": {"color": color, "price": 1_000 * number, "kind": ["옷", thing]},
            "images": [
                {"hash": f"h{color}", "path": f"{color}.png", "caption": f"{color} 사진"},
                {"hash": "out", "path": "../secret.png"},
            ],
        }
        for number, (color, thing) in enumerate(
            (color, thing) for thing in THINGS for color in COLORS
        )
    ]
    found.put([document(row) for row in rows], PictureFolder(photos))
    return found


@contextlib.contextmanager
def served(
    folder: Path,
    encoder: Any,
    *,
    keys: dict[str, str] | None = None,
    pictures: Path | None = None,
    painter: Any = None,
    naming: Any = None,
    **settings: Any,
) -> Iterator[str]:
    """The address of a service that is ready."""
    made = Settings(port=0, **settings)
    app = build(
        folder,
        encoder,
        settings=made,
        keys=Keys(keys or {}),
        pictures=pictures,
        painter=painter,
        naming=naming,
    )
    with listening(made, Keys(keys or {})) as opened:
        running = server(app)
        # Signals are for the main thread.
        running.install_signal_handlers = lambda: None  # type: ignore[method-assign]
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            address = f"http://127.0.0.1:{opened.getsockname()[1]}"
            wait_until_ready(address)
            yield address
        finally:
            running.should_exit = True
            thread.join(60)


def wait_until_ready(address: str, seconds: float = 240) -> None:
    """Ask until it is ready."""
    import httpx2

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{address}/readyz", timeout=60).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{address} did not become ready")


def dumped(value: Any) -> bytes:
    """JSON as UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode()


def wait_until(holds: Callable[[], bool], seconds: float = 240) -> None:
    """Ask until it holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.05)
