"""Documents and a service of them, made once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

for _module in ("fastapi", "uvicorn", "httpx2", "tantivy", "kiwipiepy"):
    pytest.importorskip(_module, reason="the service is in the extra serve")

from tests.search.colors import COLORS  # noqa: E402
from tests.serving.served import Seeing, make_documents  # noqa: E402


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``documents`` and ``photos``; nobody changes it."""
    place = tmp_path_factory.mktemp("shop")
    make_documents(place / "documents", place / "photos")
    Image.new("RGB", (9, 9)).save(place / "secret.png")
    return place


@pytest.fixture(scope="session")
def client(shop: Path) -> Iterator[Any]:
    """A client of the service, with no socket between."""
    from starlette.testclient import TestClient

    from kmm_jax.serving.app import build
    from kmm_jax.serving.settings import Settings
    from tests.serving.served import wait_until

    app = build(
        shop / "documents",
        Seeing(),
        settings=Settings(upload=200_000, pixels=1_000_000, text=200),
        pictures=shop / "photos",
    )
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as found:
        wait_until(lambda: found.get("/readyz").status_code == 200)
        yield found


@pytest.fixture
def picture() -> Any:
    """Pictures of a colour as bytes."""

    def make(color: str = "초록", kind: str = "PNG", size: tuple[int, int] = (30, 20)) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, COLORS[color]).save(buffer, kind)
        return buffer.getvalue()

    return make
