"""Pictures from prompts for callers: one after the other, by programs compiled before."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
from typing import Any, Protocol

import numpy as np

from kmm_jax.generation.picture_file import png
from kmm_jax.generation.pipeline import Generated
from kmm_jax.generation.request import Request
from kmm_jax.generation.safety import SafetyFilter, blackened
from kmm_jax.serving.gate import Room
from kmm_jax.serving.telemetry import log

_WAITING = 4  # pictures that are waited for; each takes seconds


class Generator(Protocol):
    """What makes pictures: a ``generation.pipeline.Pipeline``, or any other."""

    @property
    def side(self) -> int:
        """Pixels along a side of its pictures."""
        ...

    def generate(self, request: Request, *, progress: Any = None) -> Generated:
        """The pictures of a request."""
        ...

    def compile(self, request: Request, *, progress: bool = False) -> int:
        """Compile all that requests of this form need."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Painted:
    """A picture.

    Attributes:
        png: the file, with its settings inside.
        blackened: whether the safety filter flagged it; it is black then.
    """

    png: bytes
    blackened: bool


class Painter:
    """A generator at work.

    Args:
        safety: looks at each picture; None lets all pass.
    """

    def __init__(self, generator: Generator, safety: SafetyFilter | None = None) -> None:
        self._generator, self._safety = generator, safety
        self._room = Room(_WAITING)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "painter")

    def warm_up(self) -> None:
        """Compile for any prompt and number of steps, with guidance and without; blocks.

        From nothing, and from a picture.
        """
        blank = np.zeros((self.side, self.side, 3), np.uint8)
        for guidance in (7.5, 1.0):
            for image in (None, blank):
                request = Request(prompts=("",), guidance=guidance, image=image)
                self._generator.compile(request, progress=True)

    @property
    def side(self) -> int:
        """Pixels along a side of its pictures."""
        return self._generator.side

    async def paint(self, request: Request) -> Painted:
        """The one picture of a request.

        Raises:
            ProblemError: too many are waited for.
            UserError: something in the request does not fit the model.
        """
        loop = asyncio.get_running_loop()
        self._room.enter()
        began = loop.time()
        try:
            return await loop.run_in_executor(self._thread, self._painted, request)
        finally:
            self._room.leave(loop.time() - began)

    def close(self) -> None:
        """End the thread once it has nothing to do."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _painted(self, request: Request) -> Painted:
        # Told of each step, it runs one program for any number of them.
        found = self._generator.generate(request, progress=lambda *_: None)
        images, flags = blackened(
            np.asarray(found.images), self._safety, lambda count: log("blackened", count=count)
        )
        settings = {**found.settings[0], **({"blackened": flags[0]} if self._safety else {})}
        return Painted(png=png(images[0], settings), blackened=flags[0])
