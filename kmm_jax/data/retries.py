"""Patience with stores across a network, which fail for moments all the time."""

from __future__ import annotations

import random
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kmm_jax.errors import DataError

_T = TypeVar("_T")

# Seconds before each further try, doubled and spread so that a thousand readers do not come back at
# once; together about a minute, which is what stores ask of their clients.
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_PASSING_STATUS = (408, 429)  # and all of 500 and above
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_PASSING_NAME = re.compile(r"Timeout|Connection|Disconnected|Unavailable|SlowDown|Throttl")
_QUIET_SECONDS = 10.0


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment.

    Errors of the network and of an overloaded store may; a missing file, a refusal or an error of
    our own will not. Each fsspec file system has classes of its own: their HTTP status tells, or
    their name.
    """
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, int):
        return status >= 500 or status in _PASSING_STATUS
    if isinstance(error, _FINAL):
        return False
    return isinstance(error, OSError | EOFError) or bool(_PASSING_NAME.search(type(error).__name__))


class _Teller:
    """Says that a store is tried again; of many threads, one in ten seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = float("-inf")

    def tell(self, text: str) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._told < _QUIET_SECONDS:
                return
            self._told = now
        print(text, file=sys.stderr, flush=True)


_TELLER = _Teller()


def patiently(
    url: str, call: Callable[[], _T], *, sleep: Callable[[float], None] | None = None
) -> _T:
    """What ``call`` returns, called again after each passing error.

    Raises:
        DataError: the file is not there or is refused; said with the URL.
        ConnectionError: the store did not answer in about a minute. No fault of the data: training
            ends, and a launcher starts it again.
    """
    for tries, wait in enumerate((*WAITS, None), start=1):
        try:
            return call()
        except FileNotFoundError as error:
            raise DataError(f"{url}: no such file") from error
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
            if not is_passing(error):
                raise DataError(f"{url}: cannot be read: {seen}") from error
            if wait is None:
                raise ConnectionError(
                    f"{url}: out of reach after {tries} tries in {sum(WAITS):.0f} seconds: {seen}"
                ) from error
            _TELLER.tell(f"{url}: {seen}; trying again in {wait:.0f} s (try {tries})")
            (sleep or time.sleep)(wait * random.uniform(0.5, 1.5))
    raise AssertionError("the last try returns or raises")
