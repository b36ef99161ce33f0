"""How far raters agree beyond chance: Cohen's kappa with quadratic weights.

Weighted kappa (Cohen, Psychological Bulletin 70, 1968): 1 less the ratio of the disagreement that
is seen to that of raters who score alike often and without looking. A disagreement of two steps
counts four times one of a step.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

_Item = TypeVar("_Item", bound=Hashable)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of two raters.

    Attributes:
        common: items that both scored.
        same: the share of them that both scored alike; None where there are none.
        kappa: None where it is not defined: nothing in common, or one score throughout.
    """

    first: str
    second: str
    common: int
    same: float | None
    kappa: float | None


def weighted_kappa(first_N: Sequence[int], second_N: Sequence[int]) -> float | None:
    """Kappa with quadratic weights, of scores on one scale of equal steps.

    Returns:
        None where chance would not disagree either: no item, or one score throughout.

    Raises:
        ValueError: not as many of both.
    """
    first = np.asarray(first_N, np.float64)
    second = np.asarray(second_N, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} scores of one rater, {len(second)} of the other")
    if not len(first):
        return None
    seen = np.mean((first - second) ** 2)
    # The mean over all pairs of a score of one and a score of the other.
    by_chance = first.var() + second.var() + (first.mean() - second.mean()) ** 2
    return float(1 - seen / by_chance) if by_chance > 0 else None


def agreements(scores: Mapping[str, Mapping[_Item, int]]) -> list[Agreement]:
    """Of every two raters, in the order of their names.

    Args:
        scores: of each rater, by item.
    """
    found = []
    for first, second in itertools.combinations(sorted(scores), 2):
        common = [item for item in scores[first] if item in scores[second]]
        ours = [scores[first][item] for item in common]
        theirs = [scores[second][item] for item in common]
        same = float(np.mean(np.equal(ours, theirs))) if common else None
        found.append(
            Agreement(
                first=first,
                second=second,
                common=len(common),
                same=same,
                kappa=weighted_kappa(ours, theirs),
            )
        )
    return found
