"""Tags that are computed while documents are served appear there as columns, facets and filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmm_jax.search.document_tags import DocumentTagConfig, tag_documents
from tests.search.test_document_tags import tagger
from tests.serving.served import Seeing, make_documents, wait_until


def test_computed_tags_are_facets_of_a_running_service(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from kmm_jax.serving.app import build
    from kmm_jax.serving.settings import Settings

    make_documents(tmp_path / "documents", tmp_path / "photos")
    app = build(tmp_path / "documents", Seeing(), settings=Settings(refresh=0.1))
    with TestClient(app, base_url="http://localhost") as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)

        def columns() -> Any:
            return client.get("/v1/collection").json()["columns"]

        assert "색상" not in columns()
        # They have a text of their own under color.
        tag_documents(tmp_path / "documents", tagger(), DocumentTagConfig(names={"color": "색상"}))
        wait_until(lambda: "색상" in columns())
        # As the page asks for it: of the types of columns that it counts.
        assert columns()["색상"].startswith("list<") and "string" in columns()["색상"]
        asked = {"text": "셔츠", "k": 20, "facets": ["색상", "color"]}
        facets = client.post("/v1/search", json=asked).json()["facets"]
        counts = {each["value"]: each["count"] for each in facets["색상"]}
        assert counts.keys() == {"빨간색", "녹색", "파란색"}
        asked["where"] = {"색상": ["녹색"]}
        hits = client.post("/v1/search", json=asked).json()["hits"]
        assert hits and {hit["id"].split("-")[0] for hit in hits} == {"초록"}
