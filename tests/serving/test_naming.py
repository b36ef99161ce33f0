"""Names of pictures over HTTP."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kmm_jax.search.naming.asking import Namer
from kmm_jax.search.naming.database import build
from kmm_jax.serving.naming import Naming
from tests.search.colors import COLORS, Colors
from tests.serving.served import wait_until


class Named(Colors):
    """Colours that can be built of."""

    image_size = 8

    def embed_text(self, texts: Any, style: Any = "query", *, batch_size: int = 1) -> Any:
        return super().embed_text(texts)

    def embed_image(self, images: Any, *, batch_size: int = 1) -> Any:
        opened = [
            Image.open(io.BytesIO(each)).convert("RGB") if isinstance(each, bytes) else each
            for each in images
        ]
        return super().embed_image(opened)


def places(folder: Path) -> Naming:
    """A database of three places, each with its colour."""
    from kmm_jax.data.shards import ShardWriter
    from kmm_jax.data.sources import open_source

    with ShardWriter(folder, prefix="train") as writer:
        for number, (name, color) in enumerate(COLORS.items()):
            buffer = io.BytesIO()
            Image.new("RGB", (8, 8), color).save(buffer, "PNG")
            record = {"image_hash": f"h{number}", "title": f"{name} 등대"}
            writer.write(record, buffer.getvalue())
    source = open_source(str(folder / "train-*.tar"))
    build(folder / "names", source, ["one"], load=lambda path: Named(), field="title")
    return Naming(Namer.open(folder / "names", lambda path: Named()))


@pytest.fixture(scope="module")
def naming(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from starlette.testclient import TestClient

    from kmm_jax.serving.app import build as built

    app = built(shop / "documents", Colors(), naming=places(tmp_path_factory.mktemp("places")))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as found:
        wait_until(lambda: found.get("/readyz").status_code == 200)
        yield found


def test_a_picture_is_named(naming: Any, picture: Any) -> None:
    assert naming.get("/v1/collection").json()["names"]
    asked = {"image": base64.b64encode(picture("파란")).decode(), "k": 2}
    found = naming.post("/v1/names", json=asked)
    assert found.status_code == 200, found.text
    told = found.json()
    assert told["names"][0]["name"] == "파란 등대" and len(told["names"]) == 2
    assert told["none"] is None and told["known"] and told["names"][0]["probability"] is None
    both = Image.new("RGB", (40, 20), COLORS["초록"])
    both.paste(COLORS["파란"], (20, 0, 40, 20))
    buffer = io.BytesIO()
    both.save(buffer, "PNG")
    asked = {"image": base64.b64encode(buffer.getvalue()).decode()}
    for box, name in (([0, 0, 0.4, 1], "초록 등대"), ([0.6, 0, 1, 1], "파란 등대")):
        part = naming.post("/v1/names", json={**asked, "box": box}).json()
        assert part["names"][0]["name"] == name


@pytest.mark.parametrize(
    "wrong", [{}, {"image": "!!!"}, {"image": "eA=="}, {"k": 0}, {"k": 99}, {"box": [0, 0, 0, 1]},
              {"txet": 1}],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_named_is_refused(naming: Any, picture: Any, wrong: Any) -> None:
    asked = {"image": base64.b64encode(picture()).decode(), **wrong} if wrong else {}
    assert naming.post("/v1/names", json=asked).status_code in (415, 422)


def test_without_a_database_there_are_no_names(client: Any, picture: Any) -> None:
    asked = {"image": base64.b64encode(picture()).decode()}
    assert client.post("/v1/names", json=asked).status_code == 404
    assert not client.get("/v1/collection").json()["names"]
