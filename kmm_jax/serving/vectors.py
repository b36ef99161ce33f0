"""Vectors and heat-maps of queries: from the model in batches, or as they were computed before."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from kmm_jax.search.document_search import Encoder
from kmm_jax.serving.batching import Batcher

TRIED = "빨간 체크 셔츠"
"""A query to warm up with."""

_HEAT_SIZES = (1, 4)


@runtime_checkable
class SeesWhere(Protocol):
    """An encoder that says where in a picture it sees a text."""

    def heat_map(self, images: Sequence[Any], texts: Sequence[str]) -> np.ndarray:
        """(N, G, G), the relevance of each patch to the text at the picture's side."""
        ...


class Vectors:
    """Unit vectors of texts and pictures, (D,) float32.

    Args:
        sizes: of the model's batches.
        cached: vectors that are kept.
        tell: called with the kind and the number of items of each batch.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        sizes: Sequence[int],
        gather: float,
        cached: int,
        tell: Callable[[str, int], None] = lambda kind, count: None,
    ) -> None:
        self._kept = _Latest(cached)
        self._side = 64
        self._texts: Batcher[str] = Batcher(
            encoder.embed_text, sizes=sizes, gather=gather, tell=lambda count: tell("text", count)
        )
        self._images: Batcher[Image.Image] = Batcher(
            encoder.embed_image, sizes=sizes, gather=gather, tell=lambda count: tell("image", count)
        )
        self._heats: Batcher[tuple[Image.Image, str]] | None = None
        if isinstance(encoder, SeesWhere):
            seer = encoder
            self._heats = Batcher(
                lambda pairs: seer.heat_map(*map(list, zip(*pairs, strict=True))),
                sizes=[size for size in _HEAT_SIZES if size <= max(sizes)],
                tell=lambda count: tell("heat", count),
            )

    @property
    def sees_where(self) -> bool:
        """Whether there are heat-maps."""
        return self._heats is not None

    def warm_up(self) -> None:
        """Compile for all sizes of batches; blocks."""
        picture = Image.new("RGB", (self._side, self._side), "white")
        self._texts.warm_up(TRIED)
        self._images.warm_up(picture)
        if self._heats is not None:
            self._heats.warm_up((picture, TRIED))

    async def text(self, text: str) -> np.ndarray:
        """Of a text."""
        if (kept := self._kept.get(text)) is not None:
            return kept
        return self._kept.put(text, await self._texts.submit(text))

    async def image(self, picture: Image.Image, digest: bytes) -> np.ndarray:
        """Of a picture; ``digest`` of its bytes tells it from others."""
        if (kept := self._kept.get(digest)) is not None:
            return kept
        return self._kept.put(digest, await self._images.submit(picture))

    def known(self, digest: bytes) -> np.ndarray | None:
        """Of a picture that was here before."""
        return self._kept.get(digest)

    def forget_pictures(self) -> None:
        """Keep no vector of a picture that was searched with."""
        self._kept.drop(lambda key: isinstance(key, bytes))

    async def heat(self, picture: Image.Image, text: str) -> np.ndarray:
        """(G, G), rows first, over the central square of the picture."""
        assert self._heats is not None, "ask sees_where first"
        return await self._heats.submit((picture, text))

    def close(self) -> None:
        """End the threads."""
        for batcher in (self._texts, self._images, self._heats):
            if batcher is not None:
                batcher.close()


class _Latest:
    """The vectors that were used last; on the event loop's thread alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: collections.OrderedDict[str | bytes, np.ndarray] = collections.OrderedDict()

    def get(self, key: str | bytes) -> np.ndarray | None:
        if key in self._rows:
            self._rows.move_to_end(key)
        return self._rows.get(key)

    def drop(self, is_gone: Callable[[str | bytes], bool]) -> None:
        for key in [key for key in self._rows if is_gone(key)]:
            del self._rows[key]

    def put(self, key: str | bytes, row: np.ndarray) -> np.ndarray:
        self._rows[key] = row
        while len(self._rows) > self._most:
            self._rows.popitem(last=False)
        return row
