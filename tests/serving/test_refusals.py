"""What is hostile or wrong is refused with a reason, and never breaks anything."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.serving.served import Seeing, dumped, wait_until

JSON = {"content-type": "application/json"}


def bomb() -> bytes:
    """A PNG of a few hundred bytes whose header says 30,000 x 30,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    content = zlib.compress(b"\0" * 90_001)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content)


def large() -> bytes:
    """A PNG of more pixels than are taken, and few bytes."""
    buffer = io.BytesIO()
    Image.new("L", (2_000, 1_000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "condition", [{"in": None}, {"in": "shop"}, {"gt": None}, {"gt": 3}, ["shop", 3], [[1]]]
)
def test_a_condition_that_cannot_be_is_refused(client: Any, condition: Any) -> None:
    asked = {"text": "셔츠", "where": {"source": condition}, "facets": ["source"]}
    assert client.post("/v1/search", json=asked).status_code == 422


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 415, "unsupported_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415, "unsupported_image"),
        (b"<html><script>alert(1)</script></html>", 415, "unsupported_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "unsupported_image"),
        (b"P6 9 9 255\n" + bytes(243), 415, "unsupported_image"),
        (b"\xff\xd8\xff" + b"x" * 99, 422, "invalid_image"),
        (b"GIF89a<script>", 422, "invalid_image"),
        (bomb(), 422, "invalid_image"),
        (large(), 422, "invalid_image"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 300_000, 413, "too_large"),
        (b"x" * 900_000, 413, "too_large"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else value,
)
def test_what_is_no_image_is_refused(client: Any, data: bytes, status: int, code: str) -> None:
    coded = client.post("/v1/search", json={"image": base64.b64encode(data).decode()})
    sent = client.post("/v1/search/upload", files={"image": ("a.png", data, "image/png")})
    for response in (coded, sent):
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert b"script" not in response.content


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[]", 422),
        (b"\xff\xfe", 422),
        (b"[" * 100_000, 400),
        (b'{"text": 1e999}', 422),
        (b'{"text": "x", "k": ' + b"9" * 5_000 + b"}", 400),
        (dumped({}), 422),
        (dumped({"text": "\u200b \u3164"}), 422),
        (dumped({"text": "x", "txet": "y"}), 422),
        (dumped({"text": "x", "k": 0}), 422),
        (dumped({"text": "x", "k": 10**9}), 422),
        (dumped({"text": "x", "text_weight": float("nan")}), 422),
        (dumped({"text": "x", "weights": {"image": -1}}), 422),
        (dumped({"text": "x", "weights": {"sound": 1}}), 422),
        (dumped({"text": "x", "like": "../../etc/passwd"}), 404),
        (dumped({"image": "!!!"}), 422),
        (dumped({"image": "data:image/png;base64"}), 415),
        (dumped({"text": "x", "where": {"colour": "초록"}}), 422),
        (dumped({"text": "x", "where": {"price": "비싼"}}), 422),
        (dumped({"text": "x", "where": {"price": {"near": 3}}}), 422),
        (dumped({"text": "x", "where": {"kind": {"lt": "a"}}}), 422),
        (dumped({"text": "x", "where": {"time": "gestern"}}), 422),
        (dumped({"text": "x", "facets": ["colour"]}), 422),
        (b'{"text": "x", "like": "\\ud800"}', 422),
        (b'{"text": "x", "where": {"color": "\\ud800"}}', 422),
        (b'{"text": "x", "where": {"\\ud800": 1}}', 422),
        (b'{"\\ud800": 1}', 422),
        (dumped({"text": "가" * 201}), 422),
        (dumped({"text": "가" * 10_000_000}), 413),
    ],
    ids=lambda value: value[:40].decode("utf-8", "replace") if isinstance(value, bytes) else None,
)
def test_a_body_that_cannot_be_used_is_refused(client: Any, body: bytes, status: int) -> None:
    response = client.post("/v1/search", content=body, headers=JSON)
    assert 400 <= response.status_code < 500 and response.json()["error"]["message"]
    assert response.status_code == status, response.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/page/../app.py", 404),
        ("/page/%2e%2e/app.py", 404),
        ("/page/..%2f..%2fapp.py", 404),
        ("/page//etc/passwd", 404),
        ("/page/%00", 404),
        ("/v1/image?document=초록-모자&hash=out", 404),
        ("/v1/image?document=초록-모자&hash=../../secret.png", 404),
        ("/v1/image?document=../..&hash=h초록", 404),
        ("/v1/image?document=초록-모자&hash=h초록&side=100000", 422),
        ("/v1/heat?document=초록-모자&hash=h초록&text=%20", 422),
        ("/v1/document", 422),
        ("/v1/document?id=%ff%fe", 404),
        ("/v1/nothing", 404),
        ("/docs", 404),
    ],
)
def test_paths_lead_nowhere_else(client: Any, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status and "error" in response.json()
    assert "secret" not in response.text and "Traceback" not in response.text


def test_a_picture_that_is_a_page_is_not_sent_as_one(client: Any, shop: Path) -> None:
    response = client.get("/v1/image?document=초록-모자&hash=h초록")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in response.headers["content-security-policy"]


def test_other_methods_and_types_are_refused(client: Any, picture: Any) -> None:
    assert client.get("/v1/search").status_code == 405
    text = {"content-type": "text/plain"}
    assert client.post("/v1/search", content=b'{"text": "x"}', headers=text).status_code == 422
    broken = {"content-type": "multipart/form-data; boundary=x"}
    for body in (b"--x\r\nbroken", b"", b"--x--", b"\0" * 999):
        assert client.post("/v1/search/upload", content=body, headers=broken).status_code in (
            400,
            422,
        )
    file = {"image": picture()}
    for request in (b"{", b"[]", b'{"image": "eA=="}', b'{"k": "x"}', b"\xff"):
        sent = client.post("/v1/search/upload", files=file, data={"request": request})
        assert sent.status_code == 422
    both = {"request": dumped({"like": "초록-모자"})}
    assert client.post("/v1/search/upload", files=file, data=both).status_code == 422


def build(shop: Path, **more: Any) -> Any:
    from starlette.testclient import TestClient

    from kmm_jax.serving.app import build
    from kmm_jax.serving.keys import Keys
    from kmm_jax.serving.settings import Settings

    keys = Keys(more.pop("keys", {}))
    app = build(shop / "documents", Seeing(), settings=Settings(**more), keys=keys)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def test_without_a_key_nothing_is_told(shop: Path) -> None:
    key = "eine-lange-geheime-zeile"
    with build(shop, keys={"지민": key}, host="0.0.0.0") as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        for path in ("/v1/collection", "/metrics", "/v1/nothing"):
            refused = client.get(path)
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
            assert client.get(path, headers={"x-api-key": key[:-1]}).status_code == 401
        for path in ("/healthz", "/readyz", "/", "/openapi.json"):
            assert client.get(path).status_code == 200
        for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
            assert client.get("/v1/collection", headers=headers).status_code == 200
        # With keys, any name may lead here.
        other = {"x-api-key": key, "host": "search.example"}
        assert client.get("/v1/collection", headers=other).status_code == 200


def test_without_keys_names_of_other_machines_do_not_lead_here(client: Any) -> None:
    for host in ("evil.example", "localhost.evil.example", "192.168.0.7:8000", ""):
        assert client.get("/v1/collection", headers={"host": host}).status_code == 421
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
        assert client.get("/v1/collection", headers={"host": host}).status_code == 200


def test_callers_are_held_to_their_rate(shop: Path) -> None:
    keys = {"가": "0123456789abcdef", "나": "fedcba9876543210"}
    with build(shop, keys=keys, rate=0.001, burst=3) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)

        def status(key: str) -> Any:
            return client.post("/v1/search", json={"text": "셔츠"}, headers={"x-api-key": key})

        # A page of results shows many images: together they are about one call.
        images = [
            client.get("/v1/image?document=x&hash=y", headers={"x-api-key": keys["나"]})
            for _ in range(50)
        ]
        assert {each.status_code for each in images} == {404}

        assert [status(keys["가"]).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert int(status(keys["가"]).headers["retry-after"]) > 900
        assert status(keys["나"]).status_code == 200  # others are not held up
        # Guessing keys is held to the rate too.
        assert [status("x" * 20).status_code for _ in range(4)] == [401, 401, 401, 429]


def test_before_all_is_compiled_it_says_so(shop: Path) -> None:
    import threading

    from starlette.testclient import TestClient

    from kmm_jax.serving.app import build

    class Waiting(Seeing):
        may, breaks = threading.Event(), False

        def embed_text(self, texts: Any) -> Any:
            self.may.wait(240)
            if self.breaks:
                raise RuntimeError("no device")
            return super().embed_text(texts)

    for breaks in (False, True):
        encoder = Waiting()
        encoder.may, encoder.breaks = threading.Event(), breaks
        app = build(shop / "documents", encoder)
        with TestClient(app, base_url="http://localhost") as client:
            for path in ("/readyz", "/v1/collection"):
                response = client.get(path)
                assert response.status_code == 503 and response.headers["retry-after"] == "2"
            assert client.get("/healthz").status_code == 200
            assert "kmm_ready 0.0" in client.get("/metrics").text
            encoder.may.set()
            if breaks:
                wait_until(lambda: "no device" in client.get("/readyz").text)
                assert client.get("/readyz").status_code == 503
            else:
                wait_until(lambda: client.get("/readyz").status_code == 200)


def test_bodies_hold_so_much_memory_together(client: Any, shop: Path) -> None:
    with build(shop, held=5_000) as small:
        wait_until(lambda: small.get("/readyz").status_code == 200)
        for _ in range(3):  # what was held is given back
            assert small.post("/v1/search", json={"text": "가" * 1_000}).status_code == 200
            refused = small.post("/v1/search", json={"text": "가" * 1_900})
            assert refused.status_code == 429 and "retry-after" in refused.headers


def test_what_goes_wrong_inside_tells_nothing(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kmm_jax.search.document_view import DocumentView

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("/secret/path is broken")

    monkeypatch.setattr(DocumentView, "search", fail)
    response = client.post("/v1/search", json={"text": "셔츠"})
    assert response.status_code == 500 and "secret" not in response.text
    assert response.headers["x-request-id"] in response.json()["error"]["message"]


def test_metrics_and_logs_say_what_happened_and_not_what_was_asked(
    client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import logging

    from kmm_jax.serving.telemetry import LOGGER, JsonLines

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        id = {"x-request-id": "meine-1"}
        assert client.post("/v1/search", json={"text": "비밀"}, headers=id).status_code == 200
        client.get("/v1/위험%0a한", headers={"x-request-id": 'a"\\ b'})
        client.get("/healthz")
    finally:
        LOGGER.removeHandler(handler)
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (first["id"], first["path"], first["status"]) == ("meine-1", "/v1/search", 200)
    assert first["ms"] > 0 and "비밀" not in stream.getvalue()
    assert second["path"] == "other" and second["status"] == 404 and len(second["id"]) == 32
    text = client.get("/metrics").text
    assert 'kmm_requests_total{path="/v1/search",status="200"}' in text
    assert "kmm_documents 15.0" in text and 'kmm_batch_size_count{kind="text"}' in text
    assert 'kmm_refused_total{reason="too_large"}' in text
