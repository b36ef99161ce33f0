"""What every request passes before it is worked on, and what is told of it afterwards.

In this order: whose host and key it is, how often they call, whether there is room, its body, room
again. What is refused costs next to nothing, so that a service under too much load answers what it
can and refuses the rest at once.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Collection, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kmm_jax.serving.keys import Keys, Rates
from kmm_jax.serving.problems import ProblemError, busy, failed
from kmm_jax.serving.settings import Settings, is_loopback
from kmm_jax.serving.telemetry import Metrics, log

GUARDED = "/v1/"
ID = "kmm_jax.id"
"""Where a scope has the request's id."""
# No key: health, the description, and the page, which asks for one.
_OPEN = ("/healthz", "/readyz", "/openapi.json", "/")
_PAGE = "/page/"
# A page of results shows some fifty images: together they count as one call.
_LIGHT = ("/v1/image", "/v1/document", "/v1/collection")
_LIGHT_COST = 0.02
_SMALL = 64 << 10  # bytes of a body without an image
_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    ),
)


class Room:
    """Counts requests under way, and knows how long one takes.

    Args:
        most: that may be under way together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0
        self.seconds = 1.0  # of one request, averaged over the last few

    @property
    def full(self) -> bool:
        """Whether there is none."""
        return self.taken >= self._most

    def enter(self) -> None:
        """Take a place.

        Raises:
            ProblemError: there is none.
        """
        if self.full:
            raise busy(self.seconds)
        self.taken += 1

    def leave(self, seconds: float) -> None:
        """Give it back after so many seconds."""
        self.taken -= 1
        self.seconds += 0.1 * (seconds - self.seconds)


class Gate:
    """ASGI around an application.

    Args:
        paths: that the application has, for the metrics.
        large: bytes that the bodies of some paths may have.
        ready: whether ``/v1/`` is answered yet.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        keys: Keys,
        metrics: Metrics,
        paths: Collection[str],
        large: dict[str, int],
        ready: Callable[[], bool],
    ) -> None:
        self.app = app
        self.room = Room(settings.waiting)
        # Slow callers must not hold the room of others, nor all memory.
        self._coming = Room(4 * settings.waiting)
        self._held = 0  # bytes of bodies
        self._settings, self._keys, self._metrics = settings, keys, metrics
        self._rates = Rates(settings.rate, settings.burst)
        self._paths, self._large, self._ready = frozenset(paths), large, ready
        # Without keys, pages of other sites must not get in by a name that leads here.
        self._only_local = not keys and is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(send, _id_of(scope))
        scope[ID] = answer.id
        values: dict[str, Any] = {}
        try:
            await self._pass(scope, receive, answer, values)
        except ProblemError as problem:
            if problem.status in (401, 408, 413, 421, 429, 503):
                self._metrics.refused.labels(problem.code).inc()
            await answer.problem(problem)
        except _HungUpError:
            answer.status = 499  # as nginx has it: the caller went away
        except Exception:
            log("failed", level=40, error=True, id=answer.id)
            await answer.problem(failed(answer.id))
        finally:
            self._told(scope, answer, values, time.perf_counter() - started)

    async def _pass(
        self, scope: Scope, receive: Receive, answer: _Answer, values: dict[str, Any]
    ) -> None:
        path = scope["path"]
        headers = dict(reversed(scope["headers"]))  # of several alike the first
        if self._only_local and not _is_local(headers.get(b"host", b"")):
            raise ProblemError(
                421,
                "wrong_host",
                "this service answers to localhost only as long as it has no keys",
            )
        if path not in _OPEN and not path.startswith(_PAGE):
            self._admit(scope, headers, values)
        if not path.startswith(GUARDED):
            await self.app(scope, receive, answer)
            return
        if not self._ready():
            raise ProblemError(503, "not_ready", "the model is still warming up", retry_after=2)
        if self.room.full:
            raise busy(self.room.seconds)
        parts: list[bytes] = []
        try:
            await self._read(receive, headers, self._large.get(path, _SMALL), parts)
            self.room.enter()
            self._metrics.under_way.set(self.room.taken)
            started = time.perf_counter()
            try:
                await self.app(scope, _replayed(b"".join(parts), receive), answer)
            finally:
                self.room.leave(time.perf_counter() - started)
                self._metrics.under_way.set(self.room.taken)
        finally:
            self._held -= sum(map(len, parts))

    def _admit(
        self, scope: Scope, headers: MutableMapping[bytes, bytes], values: dict[str, Any]
    ) -> None:
        client = scope.get("client")
        caller = f"address {client[0] if client else 'unknown'}"
        name = self._keys.name_of(_key(headers)) if self._keys else None
        if name is not None:
            caller = values["caller"] = name
        # Those with a wrong key are guessing, and each try is a call.
        known = name is not None or not self._keys
        cost = _LIGHT_COST if known and scope["path"] in _LIGHT else 1.0
        if wait := self._rates.wait(caller, cost):
            raise ProblemError(429, "too_many", "too many requests of one caller", retry_after=wait)
        if self._keys and name is None:
            raise ProblemError(
                401, "no_key", "a key is needed: send Authorization: Bearer KEY, or X-API-Key"
            )

    async def _read(
        self,
        receive: Receive,
        headers: MutableMapping[bytes, bytes],
        most: int,
        parts: list[bytes],
    ) -> None:
        """Read a body into ``parts``, which count as held."""
        large = ProblemError(413, "too_large", f"a request here has at most {most:,} bytes")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > most:
            raise large
        self._coming.enter()
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                size = 0
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _HungUpError
                    part = message.get("body", b"")
                    size += len(part)
                    if size > most:
                        raise large
                    if self._held + len(part) > self._settings.held:
                        raise busy(self.room.seconds)
                    parts.append(part)
                    self._held += len(part)
                    if not message.get("more_body"):
                        return
        except TimeoutError as error:
            raise ProblemError(408, "too_slow", "the request did not come in time") from error
        finally:
            self._coming.leave(time.perf_counter() - started)

    def _told(self, scope: Scope, answer: _Answer, values: dict[str, Any], seconds: float) -> None:
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._metrics.requests.labels(path, str(answer.status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        if path in ("/healthz", "/readyz", "/metrics") and answer.status == 200:
            return  # probes are many and say nothing
        log(
            "request",
            id=answer.id,
            method=scope["method"],
            path=path,
            status=answer.status,
            ms=round(1e3 * seconds, 1),
            **values,
        )


class _HungUpError(Exception):
    """The caller hung up."""


class _Answer:
    """``send`` that notes the status and adds the headers of all responses."""

    def __init__(self, send: Send, id: str) -> None:
        self._send, self.id = send, id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            added = ((b"x-request-id", self.id.encode()), *_SECURITY)
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)

    async def problem(self, problem: ProblemError) -> None:
        """Answer with a problem, where no answer has begun."""
        if self.status:
            return
        body = problem.body()
        headers = {**problem.headers(), "content-length": str(len(body))}
        await self(
            {
                "type": "http.response.start",
                "status": problem.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await self({"type": "http.response.body", "body": body})


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _id_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return str(value.decode())
    return uuid.uuid4().hex


def _key(headers: MutableMapping[bytes, bytes]) -> str:
    kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    return headers.get(b"x-api-key", b"").decode("latin-1").strip()


def _is_local(host: bytes) -> bool:
    name = host.decode("latin-1")
    name = name[: name.rfind("]") + 1] if name.startswith("[") else name.partition(":")[0]
    return is_loopback(name)
