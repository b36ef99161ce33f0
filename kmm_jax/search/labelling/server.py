"""The page's server: of the standard library, on this machine alone.

Other pages that the same browser shows are strangers: a request must name this host (against DNS
rebinding), and what changes something must be JSON from this very page. Pictures are named by the
ids of tasks, never by paths, and are decoded and encoded anew, so that nothing else is served.
"""

from __future__ import annotations

import functools
import io
import json
import secrets
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from PIL import Image

from kmm_jax.errors import DataError, UserError
from kmm_jax.evaluation.thumbnail_log import LEAST, MOST
from kmm_jax.search.labelling.session import Session, Task, check_rater

Pictures = Callable[[str], Image.Image]
"""The picture at a path; DataError or OSError where it cannot be had."""

HOST = "127.0.0.1"
_SIDE = 960  # pixels of the longer side, as shown
_LONGEST_BODY = 16 << 10
_SECONDS = 30  # that a silent client is waited for
_AHEAD = 2  # pictures that a page loads ahead


class LabellingServer(ThreadingHTTPServer):
    """Serves a session; `serve_forever` until `shutdown`.

    Attributes:
        url: of the page.
    """

    daemon_threads = True

    def __init__(self, session: Session, pictures: Pictures, *, port: int = 0) -> None:
        """Take a port of this machine, a free one where it is 0.

        Raises:
            UserError: the port is taken.
        """
        handler = functools.partial(_Handler, session=session, pictures=pictures)
        try:
            super().__init__((HOST, port), handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"port {port} cannot be had: {error}; choose another with --port"
            ) from error
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.url = f"http://{HOST}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: LabellingServer
    server_version, sys_version = "kmm", ""
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS

    def __init__(self, *arguments: Any, session: Session, pictures: Pictures) -> None:
        self._session, self._pictures = session, pictures
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the terminal is the rater's."""

    def _answered(self, answer: Callable[[str, dict[str, str]], None]) -> None:
        try:
            if self.headers.get("Host") not in self.server.hosts:
                self.close_connection = True  # its body is not read
                self._fail(HTTPStatus.FORBIDDEN, "this page is for this machine alone")
                return
            url = urllib.parse.urlsplit(self.path)
            answer(url.path, dict(urllib.parse.parse_qsl(url.query)))
        except DataError as error:
            self._fail(HTTPStatus.BAD_REQUEST, str(error))
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True  # the page was closed
        except OSError as error:
            self._fail(HTTPStatus.INSUFFICIENT_STORAGE, f"not written: {error}")

    def _get(self, path: str, asked: dict[str, str]) -> None:
        if path == "/":
            self._page()
        elif path == "/api/next":
            self._state(check_rater(asked.get("rater")))
        elif path == "/api/agreement":
            self._json({"raters": self._raters(), "agreement": self._agreement()})
        elif path.startswith("/picture/"):
            self._picture(path.removeprefix("/picture/"))
        else:
            self._fail(HTTPStatus.NOT_FOUND, "no such page")

    def _post(self, path: str, asked: dict[str, str]) -> None:
        body = self._body()
        if body is None:
            return
        rater = check_rater(body.get("rater"))
        if path == "/api/score":
            score = body.get("score")
            if type(score) is not int or not LEAST <= score <= MOST:
                raise DataError(f"score is a whole number from {LEAST} to {MOST}")
            self._session.score(rater, str(body.get("id")), score)
            self._state(rater)
        elif path == "/api/undo":
            last = self._session.undo(rater)
            self._state(rater, first=last)
        else:
            self._fail(HTTPStatus.NOT_FOUND, "no such page")

    def _body(self) -> dict[str, Any] | None:
        """The JSON that was posted; None where the answer was given."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 9) or (
            int(length) > _LONGEST_BODY
        ):
            self.close_connection = True
            self._fail(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a body of known, small size is needed")
            return None
        data = self.rfile.read(int(length))
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        origin = self.headers.get("Origin")
        ours = {f"http://{host}" for host in self.server.hosts}
        # A form of another page can post text, never JSON without asking first.
        if kind != "application/json" or (origin is not None and origin not in ours):
            self._fail(HTTPStatus.FORBIDDEN, "only this page may post, and JSON")
            return None
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DataError(f"no JSON: {error}") from error
        if not isinstance(body, dict):
            raise DataError("expected an object")
        return body

    def _state(self, rater: str, *, first: Task | None = None) -> None:
        """What the page shows now: progress, the next picture and those to load ahead."""
        tasks = self._session.next(rater, 1 + _AHEAD)
        if first:
            tasks = [first, *(task for task in tasks if task != first)]
        progress = self._session.progress(rater)
        self._json(
            {
                "done": progress.done,
                "total": progress.total,
                "lost": self._session.lost,
                "task": _told(tasks[0]) if tasks else None,
                "ahead": [f"/picture/{task.id}" for task in tasks[1:]],
            }
        )

    def _raters(self) -> list[dict[str, Any]]:
        return [
            {"rater": name, "done": progress.done, "total": progress.total}
            for name, progress in self._session.raters().items()
        ]

    def _agreement(self) -> list[dict[str, Any]]:
        return [
            {
                "raters": [each.first, each.second],
                "common": each.common,
                "same": each.same,
                "kappa": each.kappa,
            }
            for each in self._session.agreement()
        ]

    def _picture(self, name: str) -> None:
        id, _, kind = name.partition("/")
        task = self._session.tasks.get(id)
        if task is None or kind not in ("", "query"):
            self._fail(HTTPStatus.NOT_FOUND, "no such picture")
            return
        path = task.item.pair.query_image if kind else task.path
        try:
            picture = self._pictures(path).convert("RGB")
        except (DataError, OSError) as error:
            self._session.lose(id)
            self._fail(HTTPStatus.NOT_FOUND, f"this picture cannot be had: {error}")
            return
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88)
        cached = "private, max-age=3600, immutable"
        self._send(HTTPStatus.OK, "image/jpeg", buffer.getvalue(), {"Cache-Control": cached})

    def _page(self) -> None:
        search = resources.files("kmm_jax.search")
        nonce = secrets.token_urlsafe(16)
        page = search.joinpath("labelling", "page.html").read_text("utf-8")
        base = search.joinpath("base.css").read_text("utf-8")
        page = page.replace("BASE", base, 1).replace("NONCE", nonce)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy}
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", page.encode("utf-8"), headers)

    def _json(self, values: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        data = json.dumps(values, ensure_ascii=False).encode("utf-8")
        self._send(status, "application/json", data, {})

    def _fail(self, status: HTTPStatus, message: str) -> None:
        self._json({"error": message}, status)

    def _send(self, status: HTTPStatus, kind: str, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        common = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {**common, **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _told(task: Task) -> dict[str, Any]:
    """What a rater sees of a task: neither model nor similarity."""
    pair = task.item.pair
    return {
        "id": task.id,
        "query": pair.query,
        "query_picture": f"/picture/{task.id}/query" if pair.query_image else None,
        "title": task.title,
        "excerpt": task.excerpt,
        "picture": f"/picture/{task.id}",
    }
