"""Queries of requests that come together become one batch for the model.

While the model computes one batch the next gathers, so that batches grow with the load and a lone
request waits for nobody. Each is filled up to one of a few sizes, for which programs are compiled
before the first request.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Computes a row for each item, in batches, on a thread of its own.

    Args:
        compute: rows (N, ...) of N items, N one of ``sizes``.
        sizes: ascending.
        gather: seconds that the first item waits for others where nothing is being computed.
        tell: called with the number of items of each batch that was computed.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], np.ndarray],
        *,
        sizes: Sequence[int],
        gather: float = 0.0,
        tell: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._compute, self._sizes, self._gather, self._tell = compute, tuple(sizes), gather, tell
        self._waiting: collections.deque[tuple[Item, asyncio.Future[np.ndarray]]] = (
            collections.deque()
        )
        self._running: asyncio.Task[None] | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "model")

    async def submit(self, item: Item) -> np.ndarray:
        """The item's row.

        Raises:
            Exception: what computing this item raises, whatever the others of its batch do.
        """
        future: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    def warm_up(self, item: Item) -> None:
        """Compute a batch of each size, so that all is compiled; blocks."""
        for size in self._sizes:
            self._compute([item] * size)

    def close(self) -> None:
        """End the thread once it has nothing to do."""
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        try:
            await asyncio.sleep(self._gather)
            while self._waiting:
                batch: list[tuple[Item, asyncio.Future[np.ndarray]]] = []
                while self._waiting and len(batch) < self._sizes[-1]:
                    item, future = self._waiting.popleft()
                    if not future.done():  # nobody waits for it any more
                        batch.append((item, future))
                if batch:
                    await self._answer(batch)
        finally:
            self._running = None

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[np.ndarray]]]) -> None:
        loop = asyncio.get_running_loop()
        items = [item for item, _ in batch]
        try:
            rows = await loop.run_in_executor(self._thread, self._filled, items)
        except Exception as error:
            if len(batch) > 1:  # one that cannot be computed must not fail its neighbours
                for each in batch:
                    await self._answer([each])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        self._tell(len(batch))
        for (_, future), row in zip(batch, rows, strict=True):
            if not future.done():
                future.set_result(row)

    def _filled(self, items: list[Item]) -> np.ndarray:
        size = next(size for size in self._sizes if size >= len(items))
        return self._compute(items + items[-1:] * (size - len(items)))[: len(items)]
