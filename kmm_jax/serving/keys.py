"""Who may call, and how often."""

from __future__ import annotations

import collections
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from kmm_jax.errors import UserError

_SHORTEST = 16
_MOST_CALLERS = 10_000


class Keys:
    """API keys by the names of their holders; of a key only its hash is kept.

    Args:
        keys: from name to key; with none, everybody may call.

    Raises:
        UserError: a key that is short, or stands twice.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._names: dict[bytes, str] = {}
        for name, key in keys.items():
            if len(key) < _SHORTEST:
                raise UserError(f"the key of {name!r} is shorter than {_SHORTEST} characters")
            if _digest(key) in self._names:
                raise UserError(f"{name!r} has the key of {self._names[_digest(key)]!r}")
            self._names[_digest(key)] = name

    def __bool__(self) -> bool:
        return bool(self._names)

    def name_of(self, key: str) -> str | None:
        """Whose key it is; None where it is nobody's."""
        # Looked up by its hash, so that the time it takes says nothing of the keys.
        return self._names.get(_digest(key))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def read_keys(path: Path | None, variable: str | None = None) -> Keys:
    """Keys of a file of lines ``NAME KEY``, and one of an environment variable.

    Raises:
        UserError: no such file, or a line that is no name and key; it shows no key.
    """
    found: dict[str, str] = {}
    if path is not None:
        if not path.is_file():
            raise UserError(f"--keys {path} is no file; write lines of NAME KEY into it")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            words = line.split()
            if not words or line.lstrip().startswith("#"):
                continue
            if len(words) != 2 or words[0] in found:
                raise UserError(f"{path}, line {number}: write NAME KEY, each name once")
            found[words[0]] = words[1]
        if not found:
            raise UserError(f"{path} holds no key; write lines of NAME KEY into it")
    if variable:
        found.setdefault("environment", variable)
    return Keys(found)


class Rates:
    """A token bucket for each caller: ``rate`` calls a second in the long run, ``burst`` at once.

    Args:
        rate: 0 for any number.
    """

    def __init__(
        self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._buckets: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def wait(self, caller: str, cost: float = 1.0) -> float:
        """0 where the caller may call now, which counts as ``cost`` calls; else the seconds."""
        if not self._rate:
            return 0.0
        now = self._clock()
        left, before = self._buckets.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - before) * self._rate)
        allowed = left >= cost
        self._buckets[caller] = (left - cost * allowed, now)
        if len(self._buckets) > _MOST_CALLERS:  # the one that was silent longest is full again
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (cost - left) / self._rate
