"""What is true of things in documents, how it is said, and how well a document answers a query.

A fact is a key and a value: ``{"type": "셔츠", "color": "빨간색"}``. Pictures show some of them and
texts say others, so that neither knows all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

Facts = Mapping[str, str]

GRADES = (
    "3: a thing in it has all that is asked for; 2: all but one of three or more; 1: some of it, "
    "the type included where one is asked for; 0: else"
)
"""The rule of `grade`, for people."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lexicon:
    """The words for facts.

    Attributes:
        words: of each key and value, the usual name first.
        paraphrases: what only people who search say, before the thing's name (꽃이 그려진).
    """

    words: Mapping[str, Mapping[str, tuple[str, ...]]]
    paraphrases: Mapping[str, Mapping[str, tuple[str, ...]]] = dataclasses.field(
        default_factory=dict
    )

    def say(self, key: str, value: str, rng: Random) -> str:
        """Half the time the usual name, else another."""
        names = self.words.get(key, {}).get(value, (value,))
        return names[0] if len(names) == 1 or rng.random() < 0.5 else rng.choice(names[1:])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A document before it is worded.

    Attributes:
        things: what it is about.
        photos: JPEGs, in the order in which they stand in it.
        kind: ``listing`` sells one thing, ``post`` tells of several.
    """

    things: tuple[Facts, ...]
    photos: tuple[bytes, ...]
    kind: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictured:
    """A picture to search with, in no document, and what it shows.

    Attributes:
        photo: gives its JPEG, the same one every time.
    """

    facts: Facts
    photo: Callable[[], bytes]


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """What a corpus is made of.

    Attributes:
        name: begins the ids of its documents.
        entries: its documents, in order.
        pictures: to search with.
        visible: keys that pictures show.
        told: keys that only texts tell.
    """

    name: str
    lexicon: Lexicon
    entries: Iterable[Entry]
    pictures: Sequence[Pictured]
    visible: tuple[str, ...]
    told: tuple[str, ...]


def grade(asked: Facts, things: Sequence[Facts], *, without: Facts | None = None) -> int:
    """How well a document of these things answers, by the rule of `GRADES`.

    Args:
        without: facts that a thing must not have to count at all.
    """
    best = 0
    for thing in things:
        if without and any(thing.get(key) == value for key, value in without.items()):
            continue
        has = {key for key, value in asked.items() if thing.get(key) == value}
        if not has or ("type" in asked and "type" not in has):
            continue
        missing = len(asked) - len(has)
        best = max(best, 3 if not missing else 2 if missing == 1 and len(asked) > 2 else 1)
    return best
