"""Pictures named for callers, one after the other, beside the searches."""

from __future__ import annotations

import asyncio
import concurrent.futures

from PIL import Image

from kmm_jax.search.naming.asking import Answer, Namer
from kmm_jax.serving.gate import Room

_WAITING = 16  # pictures that are waited for; several models look at each


class Naming:
    """A database of names with its models, on a thread of its own."""

    def __init__(self, namer: Namer) -> None:
        self._namer = namer
        self._room = Room(_WAITING)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "naming")

    def warm_up(self) -> None:
        """Compile, and read what lies on the disk; blocks."""
        self._namer.name(Image.new("RGB", (64, 64), "white"))

    async def names(self, picture: Image.Image, *, most: int) -> Answer:
        """What a picture may show.

        Raises:
            ProblemError: too many are waited for.
        """
        loop = asyncio.get_running_loop()
        self._room.enter()
        began = loop.time()
        try:
            return await loop.run_in_executor(
                self._thread, lambda: self._namer.name(picture, most=most)
            )
        finally:
            self._room.leave(loop.time() - began)

    def close(self) -> None:
        """End the thread once it has nothing to do."""
        self._thread.shutdown(wait=False, cancel_futures=True)
