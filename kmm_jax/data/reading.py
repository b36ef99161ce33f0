"""Rows made ready in threads ahead of whoever takes them, in their order."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


def in_order(
    pool: ThreadPoolExecutor, make: Callable[[int], _T], numbers: range, *, ahead: int
) -> Iterator[_T]:
    """``make`` of each number, of which so many are under way at most."""
    pending: collections.deque[Future[_T]] = collections.deque()
    for number in numbers:
        pending.append(pool.submit(make, number))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
