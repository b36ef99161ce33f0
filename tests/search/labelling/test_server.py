"""The labelling page over HTTP: a rater's whole way, and what strangers send."""

from __future__ import annotations

import http.client
import io
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from PIL import Image

from kmm_jax.cli.arguments import pictures_below
from kmm_jax.errors import UserError
from kmm_jax.evaluation.thumbnail_log import Pair, Pick, read_log
from kmm_jax.search.labelling.server import LabellingServer
from kmm_jax.search.labelling.session import Session


class Place(NamedTuple):
    server: LabellingServer
    session: Session
    labels: Path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    for number in range(4):
        Image.new("RGB", (1500, 300), (60 * number, 0, 0)).save(photos / f"{number}.png")
    (photos / "page.html").write_text("<script>alert(1)</script>")
    paths = {"x": "../secret.png", "y": "page.html", "z": "none.png"}
    chosen = {**{str(n): f"{n}.png" for n in range(4)}, **paths}
    picks = [
        Pick(
            model="hidden-model",
            pair=Pair("질의 <b>", id, "0.png" if id == "1" else ""),
            image=f"hash-{id}",
            path=path,
            similarity=0.123456,
            shown=True,
            title="제목",
            excerpt="본문",
        )
        for id, path in chosen.items()
    ]
    labels = tmp_path / "labels.jsonl"
    with (
        Session(labels, picks) as session,
        LabellingServer(session, pictures_below(photos)) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Place(server, session, labels)
        server.shutdown()
        thread.join()


class Answer(NamedTuple):
    status: int
    headers: Any
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def ask(place: Place, path: str, body: Any = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", place.server.server_port, timeout=60)
    if body is None:
        connection.request("GET", path, headers=headers)
    else:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **headers}
        connection.request("POST", path, data, given)
    answer = connection.getresponse()
    found = Answer(answer.status, answer.headers, answer.read())
    connection.close()
    return found


def test_a_rater_scores_takes_back_and_finishes(place: Place) -> None:
    rater = "김 민수"
    state = ask(place, f"/api/next?rater={quote(rater)}").json
    assert (state["done"], state["total"]) == (0, 7)
    told = json.dumps(state, ensure_ascii=False)
    for secret in ("hidden-model", "0.1234", "hash-", ".png"):
        assert secret not in told  # blind
    seen, lost = [], 0
    while task := state["task"]:
        picture = ask(place, task["picture"])
        if picture.status != 200:
            lost += 1
            state = ask(place, f"/api/next?rater={quote(rater)}").json
            continue
        assert picture.headers["Content-Type"] == "image/jpeg"
        assert Image.open(io.BytesIO(picture.data)).size == (960, 192)
        if task["query_picture"]:
            assert ask(place, task["query_picture"]).status == 200
        seen.append(task["id"])
        state = ask(place, "/api/score", {"rater": rater, "id": task["id"], "score": 4}).json
        assert state["done"] == len(seen)
        # On the disk before the answer came.
        assert len(read_log(place.labels).labels) == len(seen)
    assert (len(seen), lost, state["lost"], state["total"]) == (4, 3, 3, 4)
    back = ask(place, "/api/undo", {"rater": rater}).json
    assert back["task"]["id"] == seen[-1] and back["done"] == 3
    ask(place, "/api/score", {"rater": rater, "id": seen[-1], "score": 1})
    ask(place, "/api/score", {"rater": "이", "id": seen[0], "score": 4})
    found = ask(place, "/api/agreement").json
    assert found["raters"][0] == {"rater": rater, "done": 4, "total": 4}
    assert found["agreement"][0]["common"] == 1 and found["agreement"][0]["same"] == 1
    assert [label.score for label in read_log(place.labels).labels] == [4, 4, 4, 4, None, 1, 4]


def test_the_page_needs_nothing_from_outside_and_speaks_both_languages(place: Place) -> None:
    answer = ask(place, "/")
    page = answer.data.decode()
    policy = answer.headers["Content-Security-Policy"]
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page))
    assert f"'nonce-{nonce}'" in policy and "default-src 'none'" in policy
    assert nonce not in ask(place, "/").data.decode()
    assert "http" not in page and "NONCE" not in page
    for words in ("아예 연관이 없고 서비스에 나가면 위험한 이미지", "dangerous to show"):
        assert words in page

    ids: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            values = dict(attributes)
            ids.update([values["id"]] if "id" in values else [])
            assert not any(name.startswith("on") or name == "style" for name in values)
            assert values.get("href", "data:,") == "data:,"

    Reader().feed(page)
    assert set(re.findall(r'\$\("(\w+)"\)', page)) <= ids


def test_the_script_parses(place: Place, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to parse the script")
    script = ask(place, "/").data.decode().split("<script", 1)[1].split(">", 1)[1]
    file = tmp_path / "page.js"
    file.write_text(script.split("</script>")[0], "utf-8")
    result = subprocess.run([node, "--check", file], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/", None, {"Host": "evil.example"}, 403),
        ("/api/next?rater=a", None, {"Host": "evil.example:80"}, 403),
        ("/api/next", None, {}, 400),
        ("/api/next?rater=%00", None, {}, 400),
        ("/nothing", None, {}, 404),
        ("/picture/../../secret.png", None, {}, 404),
        ("/picture/hash-0", None, {}, 404),
        ("/page.html", None, {}, 404),
        ("/api/score", {"rater": "a", "id": "?", "score": 3}, {}, 400),
        ("/api/score", {"rater": "a", "id": "?", "score": 6}, {}, 400),
        ("/api/score", {"rater": "a", "id": "?", "score": True}, {}, 400),
        ("/api/score", {"rater": "", "id": "?", "score": 3}, {}, 400),
        ("/api/score", [], {}, 400),
        ("/api/score", b"{", {}, 400),
        ("/api/score", b"[" * 10_000, {}, 400),
        ("/api/score", b"\xff", {}, 400),
        ("/api/score", b" " * 20_000, {}, 413),
        ("/api/score", {"rater": "a"}, {"Content-Type": "text/plain"}, 403),
        ("/api/score", {"rater": "a"}, {"Origin": "http://evil.example"}, 403),
        ("/api/nothing", {"rater": "a"}, {}, 404),
    ],
)
def test_what_strangers_send_changes_nothing(
    path: str, body: Any, headers: dict[str, str], status: int, place: Place
) -> None:
    before = place.labels.read_bytes()
    answer = ask(place, path, body, **headers)
    assert answer.status == status and answer.json["error"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert place.labels.read_bytes() == before
    assert ask(place, "/api/next?rater=a").json["done"] == 0


@pytest.mark.parametrize(
    "request_text",
    [
        b"POST /api/score HTTP/1.1\r\nHost: HERE\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/score HTTP/1.1\r\nHost: HERE\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /api/score HTTP/1.1\r\nHost: HERE\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n"
        b"GET / HTTP/1.1\r\nHost: HERE\r\n\r\n",
        b"\x00\xff\r\n\r\n",
    ],
)
def test_broken_requests_get_one_answer_and_the_server_goes_on(
    request_text: bytes, place: Place
) -> None:
    here = f"127.0.0.1:{place.server.server_port}"
    with socket.create_connection(("127.0.0.1", place.server.server_port), timeout=60) as stream:
        stream.sendall(request_text.replace(b"HERE", here.encode()))
        answer = b""
        while data := stream.recv(4096):
            answer += data
    assert b" 200 " not in answer.partition(b"\r\n")[0] and answer.count(b"<script") == 0
    assert ask(place, "/").status == 200


def test_a_page_from_this_machine_by_its_other_name_may_post(place: Place) -> None:
    host = f"localhost:{place.server.server_port}"
    answer = ask(place, "/api/undo", {"rater": "a"}, Host=host, Origin=f"http://{host}")
    assert answer.status == 200


def test_a_disk_that_is_full_is_said_and_the_score_does_not_count(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ask(place, "/api/next?rater=a").json["task"]
    score = {"rater": "a", "id": task["id"], "score": 3}

    def full(rows: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(place.session._writer, "append", full)
        answer = ask(place, "/api/score", score)
        assert answer.status == 507 and "No space left" in answer.json["error"]
        assert ask(place, "/api/next?rater=a").json["done"] == 0
    assert ask(place, "/api/score", score).json["done"] == 1


def test_a_port_that_is_taken_is_said(place: Place) -> None:
    for port in (place.server.server_port, 99_999):
        with pytest.raises(UserError, match="choose another with --port"):
            LabellingServer(place.session, pictures_below(None), port=port)
