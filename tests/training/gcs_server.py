"""Enough of the JSON API of Google Cloud Storage for gcsfs, with faults on demand."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

Fault = Literal["503", "429", "reset"] | None


class Bucket:
    """What the server holds, by name.

    Attributes:
        fault: asked with method and path before each request.
        failed: how many requests failed so.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, bytes]] = {}
        self.lock = threading.Lock()
        self.fault: Callable[[str, str], Fault] = lambda method, path: None
        self.failed = 0


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, Bucket]]:
    """The endpoint's address and what is in its one bucket."""
    held = Bucket()
    handler = type("Handler", (_Handler,), {"held": held})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", held
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    held: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.held.lock:
            fault = self.held.fault(self.command, unquote(self.path))
            self.held.failed += fault is not None
        if fault == "reset":
            # A reset and not an end: no time to linger.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if fault is not None:
            self._answer(int(fault), b"the store is busy")
            return
        with self.held.lock:
            self._serve(parts.path, body)

    do_GET = do_POST = do_PUT = do_DELETE = _handle

    def _serve(self, path: str, body: bytes) -> None:
        name = unquote(path.partition("/o/")[2])
        if path.startswith("/batch"):
            self._batch(body)
        elif path.startswith("/upload") or "/upload/" in path:
            self._upload(body)
        elif not path.rpartition("/b/")[2].startswith("bucket"):
            self._answer(404, b"no such bucket")
        elif self.command == "DELETE":
            gone = self.held.objects.pop(name, None)
            self._answer(404 if gone is None else 204, b"")
        elif path.endswith("/o"):
            self._list()
        elif not name:
            self._json({"name": "bucket", "kind": "storage#bucket"})
        elif name not in self.held.objects:
            self._answer(404, b"no such object")
        elif self.query.get("alt") == "media":
            self._content(self.held.objects[name])
        else:
            self._json(self._about(name))

    def _upload(self, body: bytes) -> None:
        kind = self.query.get("uploadType")
        if kind == "media":
            self._keep(self.query["name"], body)
        elif kind == "multipart":
            mark = re.match(rb"--[^\r\n]+", body)
            assert mark is not None
            _, about, content, _ = body.split(mark[0])
            about_json = about.split(b"\n\n" if b"\r\n\r\n" not in about else b"\r\n\r\n", 1)[1]
            end = b"\n\n" if b"\r\n\r\n" not in content else b"\r\n\r\n"
            line = b"\r\n" if content.endswith(b"\r\n") else b"\n"
            self._keep(json.loads(about_json)["name"], content.split(end, 1)[1].removesuffix(line))
        elif "upload_id" in self.query:
            number = self.query["upload_id"]
            name, before = self.held.uploads[number]
            whole = before + body
            total = self.headers["Content-Range"].rpartition("/")[2]
            if total != "*" and len(whole) == int(total):
                self._keep(name, whole)
            else:
                self.held.uploads[number] = name, whole
                self._answer(308, b"", {"Range": f"bytes=0-{len(whole) - 1}"})
        else:
            number = str(len(self.held.uploads))
            name = self.query.get("name") or json.loads(body)["name"]
            self.held.uploads[number] = name, b""
            host = self.headers["Host"]
            where = f"http://{host}/upload/storage/v1/b/bucket/o?upload_id={number}"
            self._answer(200, b"", {"Location": where})

    def _keep(self, name: str, content: bytes) -> None:
        self.held.objects[name] = content
        self._json(self._about(name))

    def _list(self) -> None:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        names = sorted(name for name in self.held.objects if name.startswith(prefix))
        folders = set()
        if delimiter:
            rest = {name: name[len(prefix) :] for name in names}
            folders = {
                prefix + after.partition(delimiter)[0] + delimiter
                for after in rest.values()
                if delimiter in after
            }
            names = [name for name, after in rest.items() if delimiter not in after]
        self._json({"items": [self._about(name) for name in names], "prefixes": sorted(folders)})

    def _batch(self, body: bytes) -> None:
        """Deletions, many in one request."""
        answers = []
        for path in re.findall(rb"DELETE (\S+)", body):
            name = unquote(urlsplit(path.decode()).path.partition("/o/")[2])
            gone = self.held.objects.pop(name, None)
            status = "404 Not Found" if gone is None else "204 No Content"
            answers.append(
                f"--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {status}\r\n\r\n"
            )
        content = ("".join(answers) + "--b--\r\n").encode()
        self._answer(200, content, {"Content-Type": "multipart/mixed; boundary=b"})

    def _content(self, content: bytes) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if span is None:
            self._answer(200, content)
            return
        start, end = int(span[1]), int(span[2] or len(content) - 1)
        if start >= len(content):
            self._answer(416, b"out of range")
            return
        part = content[start : end + 1]
        where = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
        self._answer(206, part, {"Content-Range": where})

    def _about(self, name: str) -> dict[str, str]:
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": "bucket",
            "size": str(len(self.held.objects[name])),
            "generation": "1",
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
        }

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
