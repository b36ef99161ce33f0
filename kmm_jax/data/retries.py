"""Patience with stores across a network, which fail for moments all the time."""

from __future__ import annotations

import errno
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from kmm_jax.errors import DataError

_T = TypeVar("_T")

# Seconds before each further try, doubled and spread so that a thousand readers do not come back at
# once; together about a minute, which is what stores ask of their clients.
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_PASSING_STATUS = (408, 429)  # and all of 500 and above
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# A disk that is full or only readable stays so, and a file too short for what is asked of it.
_FINAL_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EINVAL)
_PASSING_NAME = re.compile(
    r"Timeout|Connection|Disconnected|Unavailable|SlowDown|Throttl|Transport"
)
# How TensorStore and JAX's coordination service say it, in errors of no class of their own.
_PASSING_WORD = re.compile(r"\b(UNAVAILABLE|DEADLINE_EXCEEDED)\b")
_QUIET_SECONDS = 10.0


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment.

    Errors of the network and of an overloaded store may; a missing file, a refusal or an error of
    our own will not. Each fsspec file system has classes of its own: their HTTP status tells, or
    their name. The one place that knows: shards, runs and checkpoints all ask here.
    """
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, int):
        return status >= 500 or status in _PASSING_STATUS
    if isinstance(error, _FINAL):
        return False
    if isinstance(error, OSError | EOFError):
        refused = str(error).startswith("Forbidden")  # gcsfs, for a status of 403
        return not refused and getattr(error, "errno", None) not in _FINAL_NUMBERS
    return bool(_PASSING_NAME.search(type(error).__name__) or _PASSING_WORD.search(str(error)))


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
    url: str,
    call: Callable[[], _T],
    *,
    doing: Literal["read", "written"] = "read",
    sleep: Callable[[float], None] | None = None,
) -> _T:
    """What ``call`` returns, called again after each passing error.

    Args:
        doing: what is done with ``url``, for the message.

    Raises:
        DataError: the file is not there or is refused; said with the URL.
        ConnectionError: the store did not answer in about a minute. No fault of the data: training
            ends, and a launcher starts it again.
    """
    for tries, wait in enumerate((*WAITS, None), start=1):
        try:
            return call()
        except Exception as error:
            if isinstance(error, FileNotFoundError) and doing == "read":
                raise DataError(f"{url}: no such file") from error
            seen = f"{type(error).__name__}: {error}"
            if not is_passing(error):
                raise DataError(f"{url}: cannot be {doing}: {seen}") from error
            if wait is None:
                raise ConnectionError(
                    f"{url}: out of reach after {tries} tries in {sum(WAITS):.0f} seconds: {seen}"
                ) from error
            _TELLER.tell(f"{url}: {seen}; trying again in {wait:.0f} s (try {tries})")
            (sleep or time.sleep)(wait * random.uniform(0.5, 1.5))
    raise AssertionError("the last try returns or raises")
