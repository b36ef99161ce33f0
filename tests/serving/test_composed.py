"""Composed queries and parts of pictures over HTTP: as the library has them, or refused."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kmm_jax.retrieval.terms import parse_terms
from kmm_jax.search.document_search import DocumentSearch
from kmm_jax.search.document_view import Query
from tests.search.colors import COLORS, Colors
from tests.serving.served import dumped


def coded(*names: str, turned: bool = False) -> str:
    """A picture with a stripe of each colour from left to right, or down, in base64."""
    image = Image.new("RGB", (40 * len(names), 40))
    for number, name in enumerate(names):
        image.paste(COLORS[name], (40 * number, 0, 40 * (number + 1), 40))
    if turned:
        image = image.transpose(Image.Transpose.ROTATE_270)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def found(client: Any, **asked: Any) -> Any:
    response = client.post("/v1/search", json=asked)
    assert response.status_code == 200, response.text
    return response.json()


def first(client: Any, **asked: Any) -> str:
    return str(found(client, weights={"words": 0, "text": 0}, **asked)["hits"][0]["id"])


def test_terms_find_what_the_library_finds(client: Any, shop: Path) -> None:
    library = DocumentSearch(shop / "documents", Colors())
    for text, said in (("셔츠", "- 빨간*0.5 + 초록"), ("", "+ 파란"), ("파란 우산", "- 파란*3")):
        terms = parse_terms(said)
        asked = [{"text": each.text, "weight": each.weight} for each in terms]
        hits = found(client, text=text, terms=asked, k=7)["hits"]
        expected = library.search(Query(text=text, terms=terms), 7)
        assert [hit["id"] for hit in hits] == [hit.document.id for hit in expected]
        for hit, wanted in zip(hits, expected, strict=True):
            assert hit["parts"] == pytest.approx(wanted.parts)


def test_a_picture_without_one_colour_and_with_another(client: Any) -> None:
    swap = [{"text": "빨간", "weight": -2}, {"text": "파란", "weight": 2}]
    assert first(client, image=coded("빨간"), terms=swap).startswith("파란")
    assert first(client, like="빨간-모자", terms=swap).startswith("파란")
    like = [{"like": "초록-모자", "weight": 2}]
    assert first(client, image=coded("빨간"), terms=like).startswith("초록")
    pictures = [{"image": coded("초록")}, {"image": coded("빨간", "파란"), "box": [0.6, 0, 1, 1]}]
    assert first(client, terms=pictures[:1]).startswith("초록")
    assert first(client, terms=pictures[1:]).startswith("파란")


def test_a_part_of_the_picture_is_looked_at_and_told(client: Any, shop: Path) -> None:
    image = coded("초록", "파란")
    right = found(client, image=image, box=[0.6, 0, 1, 1], weights={"words": 0, "text": 0})
    assert right["box"] == [0.6, 0, 1, 1] and right["hits"][0]["id"].startswith("파란")
    assert first(client, image=image, box=[0, 0, 0.4, 1]).startswith("초록")
    assert first(client, image=image, box=[0.6, 0, 1, 1], whole=0.2).startswith("파란")
    # This model sees everything in the lower half of the central square.
    seen = found(client, image=image, locate="신발")["box"]
    assert seen[0] == 0.25 and 0.3 < seen[1] < 0.7 and seen[2:] == [0.75, 1.0]
    assert first(client, image=coded("초록", "파란", turned=True), locate="신발")[:2] == "파란"
    assert found(client, like="초록-모자", box=[0, 0, 0.5, 0.5])["box"] == [0, 0, 0.5, 0.5]
    assert found(client, text="셔츠")["box"] is None
    sent = client.post(
        "/v1/search/upload",
        files={"image": base64.b64decode(image)},
        data={"request": dumped({"box": [0.6, 0, 1, 1], "weights": {"words": 0, "text": 0}})},
    )
    assert sent.json()["hits"][0]["id"].startswith("파란")


@pytest.mark.parametrize(
    "asked",
    [
        {"terms": []},
        {"terms": [{"text": "x"}] * 17},
        {"terms": [{"text": "x"}] * 200_000},
        {"terms": [{}]},
        {"terms": [{"text": " "}]},
        {"terms": [{"text": "x", "like": "초록-모자"}]},
        {"terms": [{"text": "x", "box": [0, 0, 1, 1]}]},
        {"terms": [{"text": "x", "weight": 1e9}]},
        {"terms": [{"text": "x", "weight": "nan"}]},
        {"terms": [{"text": "x", "weight": 0}]},
        {"terms": [{"text": "가" * 201}]},
        {"terms": [{"image": "!!!"}]},
        {"terms": [{"image": coded("초록")}] * 5},
        {"text": "빨간", "terms": [{"txet": "x"}]},
        {"like": "초록-모자", "terms": [{"like": "초록-모자", "weight": -1}]},
        {"text": "x", "box": [0, 0, 1, 1]},
        {"text": "x", "locate": "신발"},
        {"image": coded("초록"), "box": [0, 0, 0, 1]},
        {"image": coded("초록"), "box": [0.9, 0, 0.1, 1]},
        {"image": coded("초록"), "box": [0, 0, 2, 1]},
        {"image": coded("초록"), "box": [0, 0, 1]},
        {"image": coded("초록"), "box": [0, 0, 1, None]},
        {"image": coded("초록"), "box": [0, 0, 1, 1], "locate": "신발"},
        {"image": coded("초록"), "box": [0, 0, 1, 1], "whole": 2},
    ],
    ids=lambda asked: repr(asked)[:60],
)
def test_what_cannot_be_looked_for_is_refused(client: Any, asked: dict[str, Any]) -> None:
    response = client.post("/v1/search", json=asked)
    assert response.status_code in (413, 422), response.text
    assert response.json()["error"]["message"]


def test_nan_is_no_weight(client: Any) -> None:
    for weight in (b"NaN", b"1e999", b"-Infinity"):
        body = b'{"terms": [{"text": "x", "weight": %s}]}' % weight
        response = client.post(
            "/v1/search", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 422


def test_no_such_document_is_not_found(client: Any) -> None:
    asked = {"text": "x", "terms": [{"like": "../../etc/passwd"}]}
    assert client.post("/v1/search", json=asked).status_code == 404


def test_a_model_without_heat_maps_looks_for_nothing(shop: Path) -> None:
    from starlette.testclient import TestClient

    from kmm_jax.serving.app import build
    from tests.serving.served import wait_until

    app = build(shop / "documents", Colors())
    with TestClient(app, base_url="http://localhost") as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        asked = {"image": coded("초록"), "locate": "신발"}
        response = client.post("/v1/search", json=asked)
        assert response.status_code == 422 and "heat-maps" in response.json()["error"]["message"]
        # Nor are there pictures to cut.
        cut = client.post("/v1/search", json={"like": "초록-모자", "box": [0, 0, 1, 1]})
        assert cut.status_code == 404
