"""Which of the settings that were tried to take: no clock and no index here, numbers alone.

How an index searches is found in two parts. What it was built with (leaves, dimensions hashed
together, ...) takes a build to change; `climb` changes one of these at a time and keeps what is
faster. How many leaves are searched and how many of the best by hash are scored again is said with
each search; `pairs` finds, for each number scored again, the fewest leaves that find enough.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kmm_jax.retrieval.settings import IndexSettings

REORDERS = (20, 30, 50, 75, 100, 150, 200, 300, 500, 800, 1_200, 2_000)

# Leaves cost more than what is scored again: beyond so many times the fewest, no pair is faster.
_FARTHEST = 4

# What is no faster than by this share is taken for as fast: clocks are no more exact.
_FASTER = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """Settings, and what they were measured to do.

    Attributes:
        settings: of an index, all chosen.
        recall: recall@10 against exact search, the mean over queries.
        error: standard error of that mean.
        seconds: of one core for one query.
    """

    settings: IndexSettings
    recall: float
    error: float
    seconds: float

    def reaches(self, wanted: float) -> bool:
        """Whether recall is so high even when lower by its standard error."""
        return self.recall - self.error >= wanted

    def as_json(self) -> dict[str, Any]:
        """What was varied, and the numbers."""
        names = ("leaves", "dims_per_block", "anisotropic_threshold", "leaves_to_search", "reorder")
        return {
            **{name: getattr(self.settings, name) for name in names},
            "recall": round(self.recall, 4),
            "error": round(self.error, 4),
            "microseconds": round(1e6 * self.seconds, 1),
        }


def fastest(tried: Iterable[Tried], wanted: float) -> Tried | None:
    """The fastest that reaches ``wanted``; None if none does.

    Of those that are as fast as clocks can tell it is the one that does the least.
    """
    reaching = [each for each in tried if each.reaches(wanted)]
    least = min((each.seconds for each in reaching), default=0.0)
    return min(
        (each for each in reaching if each.seconds <= (1 + _FASTER) * least),
        key=_work,
        default=None,
    )


def most_accurate(tried: Iterable[Tried]) -> Tried:
    """The one with the highest recall, of equals the fastest."""
    return min(tried, key=lambda each: (-each.recall, each.seconds, *_work(each)))


def _work(each: Tried) -> tuple[float, ...]:
    settings = each.settings
    leaves, reorder = settings.leaves_to_search or 0, settings.reorder or 0
    return leaves, reorder, each.seconds, -each.recall


def pairs(
    reaches: Callable[[int, int], bool], leaves: int, reorders: Sequence[int]
) -> list[tuple[int, int]]:
    """Leaves to search and numbers scored again that reach what is wanted, none of them to spare.

    Args:
        reaches: whether so many leaves and so many scored again do; more of either must not find
            less. It is asked few times, and for many leaves only where few do not do.
        leaves: that there are; 1 where there is no tree.
        reorders: to choose from, ascending.

    Returns:
        For each number scored again the fewest leaves that do, most scored again first, as far as
        that may pay; nothing where all leaves and the highest number do not do.
    """
    found: list[tuple[int, int]] = []
    at_least, least = 1, leaves
    for reorder in sorted(reorders, reverse=True):
        most = min(leaves, _FARTHEST * least) if found else leaves
        # Upwards by doubling, so that many leaves are searched only where they are needed.
        below, at = at_least - 1, at_least
        while not reaches(at, reorder):
            if at >= most:
                return found
            below, at = at, min(2 * at, most)
        while at - below > 1:
            middle = (below + at) // 2
            below, at = (below, middle) if reaches(middle, reorder) else (middle, at)
        found.append((at, reorder))
        at_least, least = at, min(least, at)
    return found


def climb(
    start: IndexSettings,
    ladders: Mapping[str, Sequence[Any]],
    measure: Callable[[IndexSettings], Tried | None],
    *,
    fit: Callable[[IndexSettings], IndexSettings] = lambda settings: settings,
    most: int | None = None,
) -> Tried | None:
    """The fastest settings found by changing one at a time, to the next on its ladder and on.

    Args:
        start: settings to begin with; each value on its ladder.
        ladders: for each setting, in the order in which they are changed, its values.
        measure: the fastest search of an index built with these, that finds enough; None where
            none does. It builds an index: it is asked about no settings twice.
        fit: makes what was changed whole: without a tree there are no leaves, say.
        most: settings that it is asked about, at most.

    Returns:
        None where not even the start finds enough, nor a neighbour of it.
    """
    seen: dict[IndexSettings, Tried | None] = {}

    def seconds(settings: IndexSettings) -> float:
        if settings not in seen and (most is None or len(seen) < most):
            seen[settings] = measure(settings)
        tried = seen.get(settings)
        return math.inf if tried is None else tried.seconds

    best = start
    seconds(best)
    for name, ladder in ladders.items():
        if getattr(best, name) not in ladder:  # what a layout without leaves does not have
            continue
        for step in (1, -1):
            before = best
            while (at := ladder.index(getattr(best, name)) + step) in range(len(ladder)):
                other = fit(dataclasses.replace(best, **{name: ladder[at]}))
                if not seconds(other) < (1 - _FASTER) * seconds(best):
                    break
                best = other
            if best != before:
                break
    return seen[best]
