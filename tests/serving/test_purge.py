"""A picture that is purged while it is served is served no more, and nothing of it is kept."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.cli import main
from tests.serving.served import Seeing, make_documents, wait_until


class Counting(Seeing):
    """Counts the pictures that it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures = 0

    def embed_image(self, images: Any) -> np.ndarray:
        self.pictures += len(images)
        return super().embed_image(images)


def test_a_purge_reaches_what_is_served(tmp_path: Path, picture: Any) -> None:
    from starlette.testclient import TestClient

    from kmm_jax.serving.app import build
    from kmm_jax.serving.settings import Settings

    make_documents(tmp_path / "docs", tmp_path / "photos").store.close()
    encoder = Counting()
    app = build(
        tmp_path / "docs",
        encoder,
        settings=Settings(refresh=0.1, batch=1),
        pictures=tmp_path / "photos",
    )
    with TestClient(app, base_url="http://localhost") as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)

        def searched(**asked: Any) -> Any:
            return client.post("/v1/search", json={"k": 3, **asked}).json()

        mine = base64.b64encode(picture("초록")).decode()
        version = searched(image=mine)["version"]
        looked = encoder.pictures
        hit = searched(image=mine)["hits"][0]
        assert encoder.pictures == looked and hit["image"]["hash"] == "h초록"
        assert client.get(hit["image"]["url"]).status_code == 200

        (tmp_path / "hashes.txt").write_text("h초록\n", "utf-8")
        asked = ["corpus", "purge", str(tmp_path / "docs")]
        assert main([*asked, "--hashes", str(tmp_path / "hashes.txt")]) == 0
        # What is shown comes from the store, at once.
        assert client.get(hit["image"]["url"]).status_code == 404
        wait_until(lambda: searched(text="모자")["version"] != version)
        found = searched(image=mine)
        assert encoder.pictures == looked + 1  # its vector was not kept
        assert all(each["image"]["hash"] != "h초록" for each in found["hits"] if each["image"])
        by_text = searched(text="초록 셔츠", weights={"image": 0})
        assert by_text["hits"][0]["id"] == "초록-셔츠"
        assert client.get("/v1/collection").json()["images"] == 10
