"""The bar that commands show while they work through rows of a known number."""

from __future__ import annotations

import time
from types import TracebackType

from kmm_jax.training.progress import Progress


class RowsBar:
    """A bar that appears with the first rows that are done, and ends with the block.

    Args:
        what: stands before it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Progress | None = None
        self._first: tuple[int, float] = (0, 0.0)

    def __enter__(self) -> RowsBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Show that so many rows are done of all."""
        if self._bar is None:
            # The first rows were compiled for; what follows tells the speed.
            self._bar, self._first = Progress(self._what, total), (done, time.monotonic())
        seconds = time.monotonic() - self._first[1]
        rate = (done - self._first[0]) / seconds if seconds > 0 else 0.0
        left = {"speed/eta_seconds": (total - done) / rate} if rate else {}
        self._bar.update(done, {"speed/examples_per_second": rate, **left})
