"""Samples of a stream that depend on what is in it and not on its order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Smallest(Generic[T]):
    """The values with the smallest keys, each key once; keys are hashes, so it is a random sample.

    Args:
        size: how many are held at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: dict[str, T] = {}
        self._largest: str | None = None  # of the keys held, once there is no room

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """(key, value), by key."""
        return iter(sorted(self._held.items(), key=lambda item: item[0]))

    def __len__(self) -> int:
        return len(self._held)

    def wants(self, key: str) -> bool:
        """Whether a value of this key would be held."""
        return (self._largest is None or key < self._largest) and key not in self._held

    def offer(self, key: str, make: Callable[[], T]) -> None:
        """Hold what ``make`` returns, if the key is among the smallest; else it is not called."""
        if self.wants(key):
            self.put(key, make())

    def put(self, key: str, value: T) -> None:
        """Hold the value, if its key is among the smallest."""
        if not self.wants(key):
            return
        self._held[key] = value
        if len(self._held) > self._size:
            del self._held[max(self._held)]
        if len(self._held) == self._size:
            self._largest = max(self._held)

    def values(self) -> list[T]:
        """By key."""
        return [value for _, value in self]


def text_key(text: str) -> str:
    """A key for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def evenly(values: Sequence[T], most: int) -> list[T]:
    """All of them, or ``most`` that are spread over all."""
    if len(values) <= most:
        return list(values)
    return [values[place * len(values) // most] for place in range(most)]
