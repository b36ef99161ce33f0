"""Searches over HTTP: what is found is what the library finds, and all that it says is there."""

from __future__ import annotations

import base64
import dataclasses
import io
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kmm_jax.errors import UserError
from kmm_jax.search.document_search import DocumentSearch
from kmm_jax.search.document_view import Query
from tests.search.colors import Colors
from tests.serving.served import dumped


def found(client: Any, **asked: Any) -> Any:
    response = client.post("/v1/search", json=asked)
    assert response.status_code == 200, response.text
    return response.json()


def test_what_is_found_is_what_the_library_finds(client: Any, shop: Path, picture: Any) -> None:
    library = DocumentSearch(shop / "documents", Colors())
    data = picture("빨간")
    image = Image.open(io.BytesIO(data))
    for asked in (
        {"text": "초록 셔츠"},
        {"text": "셔츠", "image": image, "text_weight": 0.25},
        {"image": image, "where": {"source": "shop"}},
        {"like": "파란-모자", "fusion": "weighted", "weights": {"image": 2.0, "words": 0.0}},
    ):
        sent = {**asked}
        if "image" in sent:
            sent["image"] = base64.b64encode(data).decode()
        hits = found(client, k=7, **sent)["hits"]
        expected = library.search(Query(**asked), 7)
        assert [hit["id"] for hit in hits] == [hit.document.id for hit in expected]
        for hit, wanted in zip(hits, expected, strict=True):
            assert hit["parts"] == pytest.approx(wanted.parts)
            assert hit["score"] == pytest.approx(sum(hit["parts"].values()))
            assert hit["image"]["hash"] == wanted.image.hash


def test_an_image_may_come_as_a_file_as_base64_or_as_a_data_url(client: Any, picture: Any) -> None:
    answers = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"):
        data = picture("파란", kind)
        coded = base64.b64encode(data).decode()
        answers.append(found(client, image=coded, k=5))
        lines = base64.encodebytes(data).decode()
        answers.append(found(client, image=lines, k=5))
        answers.append(found(client, image=f"data:image/{kind.lower()};base64,{coded}", k=5))
        sent = client.post(
            "/v1/search/upload", files={"image": data}, data={"request": dumped({"k": 5})}
        )
        assert sent.status_code == 200, sent.text
        answers.append(sent.json())
    ids = [[hit["id"] for hit in each["hits"]] for each in answers]
    assert all(each == ids[0] for each in ids) and all("파란" in id for id in ids[0])


def test_facets_count_what_is_found_and_narrow_it(client: Any) -> None:
    asked = {"text": "셔츠", "facets": ["color", "kind", "source"]}
    facets = found(client, **asked)["facets"]
    assert {each["value"]: each["count"] for each in facets["color"]} == {
        "빨간": 5, "초록": 5, "파란": 5
    }  # fmt: skip
    narrowed = found(client, **asked, where={"color": "초록", "kind": "우산"})
    assert [hit["id"] for hit in narrowed["hits"]] == ["초록-우산"]
    counts = {
        name: {each["value"]: each["count"] for each in facet}
        for name, facet in narrowed["facets"].items()
    }
    # Each as if it were not narrowed by itself, so that others can be chosen.
    assert counts["color"] == {"빨간": 1, "초록": 1, "파란": 1}
    assert counts["kind"] == {"옷": 5, "셔츠": 1, "바지": 1, "모자": 1, "치마": 1, "우산": 1}
    assert counts["source"] in ({"shop": 1}, {"blog": 1})
    cheap = found(client, text="옷", where={"price": {"gte": 2_000, "lt": 4_000}}, k=50)["hits"]
    assert {hit["tags"]["price"] for hit in cheap} == {2_000, 3_000}
    several = found(client, text="옷", where={"color": ["초록", "파란"], "kind": {"in": ["모자"]}})
    assert {hit["id"] for hit in several["hits"]} == {"초록-모자", "파란-모자"}
    assert found(client, text="옷", where={"price": 1 << 70})["hits"] == []
    late = found(client, text="옷", where={"time": {"gte": "2026-11-23T00:00:00+09:00"}})["hits"]
    assert {hit["time"][:10] for hit in late} == {"2026-11-23", "2026-11-24"}


@pytest.mark.parametrize(
    "text",
    [
        unicodedata.normalize("NFD", "초록 셔츠"),
        "초록\u200b 셔츠",
        "  초록\u3000셔츠\n",
        "초록 셔츠 🧥👨‍👩‍👧‍👦",
        "초\u0000록 셔츠",
        "초록 셔츠 \ud83d",
    ],
)
def test_odd_but_valid_text_finds_what_plain_text_does(client: Any, text: str) -> None:
    # Half a surrogate pair cannot be UTF-8, but JSON's escapes can say it.
    body = b'{"text": "%s", "k": 3}' % b"".join(
        b"\\u%04x" % int.from_bytes(pair, "big")
        for raw in [text.encode("utf-16-be", "surrogatepass")]
        for pair in (raw[at : at + 2] for at in range(0, len(raw), 2))
    )
    response = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert response.json()["hits"][0]["id"] == "초록-셔츠"


@pytest.mark.parametrize("text", ["🧥", "ㅋㅋㅋ", "a", "漢字", "‮abc", "é" * 200, "\U0010fffd"])
def test_any_text_is_answered(client: Any, text: str) -> None:
    assert len(found(client, text=text, k=3)["hits"]) == 3


def test_thumbnails_are_chosen_with_their_reasons(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from kmm_jax.search.documents import document
    from kmm_jax.search.pictures import PictureFolder
    from kmm_jax.search.thumbnail import Known
    from kmm_jax.search.thumbnail_ranking import ThumbnailConfig
    from kmm_jax.serving.app import build
    from tests.serving.served import make_documents, wait_until

    documents = make_documents(tmp_path / "d", tmp_path / "p")
    images = [{"hash": f"h{each}", "path": f"{each}.png"} for each in ("빨간", "초록", "파란")]
    copy, lost = {"hash": "copy", "path": "초록.png"}, {"hash": "lost", "path": "lost.png"}
    documents.put(
        [document({"id": "a/b?c", "title": "여러 장", "images": [*images, copy, lost]})],
        PictureFolder(tmp_path / "p"),
    )
    app = build(
        tmp_path / "d",
        Colors(),
        pictures=tmp_path / "p",
        thumbnails=ThumbnailConfig(floor=0.5),
        known={"h파란": Known(unsafe=0.9), "copy": Known(unsafe=0.0, quality=1.0)},
    )
    with TestClient(app, base_url="http://localhost") as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        asked = {"document": "a/b?c", "text": "초록 우산"}
        said = client.post("/v1/thumbnails", json=asked).json()
        ranked = said["thumbnails"]
        assert [each["image"]["hash"] for each in ranked] == ["copy", "h초록"]
        assert said["floor"] == 0.5
        for each in ranked:
            assert each["score"] == pytest.approx(sum(each["terms"].values()))
        best, second = (each["terms"] for each in ranked)
        assert best["similarity"] == second["similarity"] == pytest.approx(1, abs=1e-3)
        assert best["quality"] == pytest.approx(0.02) and best["safety"] == best["diversity"] == 0
        assert second["diversity"] == pytest.approx(-0.1, abs=1e-3) and second["safety"] < 0
        left = {each["image"]["hash"]: each for each in said["left_out"]}
        assert {hash: each["reason"] for hash, each in left.items()} == {
            "h빨간": "below_floor",
            "h파란": "unsafe",
            "lost": "not_indexed",
        }
        assert left["h파란"]["unsafe"] == pytest.approx(0.9) and left["lost"]["similarity"] is None
        one = client.post("/v1/thumbnails", json={**asked, "most": 1}).json()
        assert len(one["thumbnails"]) == 1
        assert client.post("/v1/thumbnails", json={**asked, "most": 0}).status_code == 422
        # No picture is better than one that does not fit.
        none = client.post("/v1/thumbnails", json={**asked, "text": "바다"}).json()
        assert not none["thumbnails"] and len(none["left_out"]) == 5
        shown = client.get(ranked[0]["image"]["url"])
        assert Image.open(io.BytesIO(shown.content)).getpixel((2, 2))[1] > 250  # type: ignore[index]
        # This model says of nothing where it sees it.
        assert client.get("/v1/heat?document=a/b%3Fc&hash=h초록&text=x").status_code == 404
        assert not client.get("/v1/collection").json()["heat_maps"]


def test_images_may_be_searched_in_an_index_elsewhere(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from kmm_jax.retrieval import Collection
    from kmm_jax.retrieval.collection import Found
    from kmm_jax.retrieval.searched import UnavailableError
    from kmm_jax.retrieval.shards import Shards
    from kmm_jax.serving.app import build
    from tests.serving.served import make_documents, wait_until

    documents = make_documents(tmp_path / "d", tmp_path / "p")
    rows = documents._images.ids()
    for number in range(2):
        shard = Collection.create(tmp_path / "i" / str(number), model_hash="colours", dim=4)
        some = rows[number::2]
        vectors = np.stack([documents._images.vector(each) for each in some])
        shard.put(some, vectors, {"document": [each.rpartition("/")[0] for each in some]})
    documents._images.delete(rows)

    class Lame(Shards):
        """A cluster with a shard that answers no more."""

        fails: Any = None

        def pinned(self) -> Lame:
            return self

        def search(self, *given: Any, **more: Any) -> Found:
            if self.fails is not None:
                raise self.fails
            return dataclasses.replace(super().search(*given, **more), complete=False)

    whole, lame = Shards.open(tmp_path / "i"), Lame.open(tmp_path / "i")
    asked = {"text": "초록", "weights": {"words": 0, "text": 0}, "k": 5}
    for index, complete in ((whole, True), (lame, False)):
        app = build(tmp_path / "d", Colors(), images=index)
        with TestClient(app, base_url="http://localhost") as client:
            wait_until(lambda: client.get("/readyz").status_code == 200)
            said = client.post("/v1/search", json=asked).json()
            assert {hit["id"].partition("-")[0] for hit in said["hits"]} == {"초록"}
            assert said["complete"] is complete and said["version"].endswith(index.version)
            assert client.get("/v1/collection").json()["images"] == 15
            if index is lame:
                assert "kmm_incomplete_total 1.0" in client.get("/metrics").text
                Lame.fails = UnavailableError("shard 1 of 2: a path of ours")
                refused = client.post("/v1/search", json=asked)
                assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
                assert "path" not in refused.text
    with pytest.raises(UserError, match="search with the model that made it"):
        build(tmp_path / "d", Colors(), images=Shards.open(_of_another(tmp_path / "o")))


def _of_another(folder: Path) -> Path:
    from kmm_jax.retrieval import Collection

    Collection.create(folder / "0", model_hash="another", dim=4)
    return folder


def test_documents_images_and_heat_are_shown(client: Any) -> None:
    shown = client.get("/v1/document", params={"id": "초록-모자"}).json()
    assert shown["title"] == "초록 모자" and shown["images"][0]["caption"] == "초록 사진"
    response = client.get(f"{shown['images'][0]['url']}&side=96")
    assert response.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(response.content)).format == "JPEG"
    asked = {"document": "초록-모자", "hash": "h초록", "text": "모자"}
    heat = client.get("/v1/heat", params=asked).json()["heat"]
    assert heat == [[0, 0.3333], [0.6667, 1]]
    about = client.get("/v1/collection").json()
    assert about["documents"] == 15 and about["images"] == 15 and about["heat_maps"]
    assert about["columns"]["kind"] == "list<element: string>" and about["pictures"]


def test_a_learned_fusion_is_asked_for_by_name(shop: Path, tmp_path: Path) -> None:
    import shutil

    from starlette.testclient import TestClient

    from kmm_jax.search.learned_fusion import KINDS, LearnedFusion
    from kmm_jax.serving.app import build
    from kmm_jax.serving.settings import Settings
    from tests.serving.served import wait_until

    shutil.copytree(shop / "documents", tmp_path / "documents")
    app = build(tmp_path / "documents", Colors(), settings=Settings(refresh=0.2))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as served:
        wait_until(lambda: served.get("/readyz").status_code == 200)

        def learned() -> bool:
            return bool(served.get("/v1/collection").json()["learned"])

        asked = {"text": "초록 셔츠", "fusion": "learned", "k": 5}
        refused = served.post("/v1/search", json=asked)
        assert refused.status_code == 422 and not learned()
        assert "no fusion was learned for these documents" in refused.json()["error"]["message"]
        # The words' score alone: what was learned meanwhile is taken up.
        weights = {kind: np.zeros((3, 4)) for kind in KINDS}
        weights["text"][0, 3] = 2.0
        library = DocumentSearch(tmp_path / "documents", Colors())
        library.learn(LearnedFusion(weights=weights, model_hash="colours"))
        wait_until(learned)
        hits = found(served, **asked)["hits"]
        expected = library.search(Query(text="초록 셔츠", fusion="learned"), 5)
        assert [hit["id"] for hit in hits] == [hit.document.id for hit in expected]
        assert hits[0]["id"] == "초록-셔츠" and hits[0]["parts"]["words"] > 0
        assert hits[0]["parts"]["image"] == 0
