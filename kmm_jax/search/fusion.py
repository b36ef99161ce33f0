"""One ranking of several matchers' rankings.

``rrf`` needs no scores (Cormack, Clarke and Buettcher, SIGIR 2009); ``weighted`` adds scores that
were brought to one scale: the best of a list is 1, the last of it, or what is not in it, 0. What is
learned from judgements is ``learned_fusion``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from kmm_jax.errors import UserError

Rule = Literal["rrf", "weighted"]
Fusion = Literal["rrf", "weighted", "learned"]
Ranking = Sequence[tuple[str, float]]
"""Ids with their scores, best first."""

RANK_CONSTANT = 60


def fused(
    rankings: Mapping[str, Ranking],
    *,
    how: Rule = "rrf",
    weights: Mapping[str, float] | None = None,
) -> list[tuple[str, dict[str, float]]]:
    """Ids with what each matcher adds to their score, the highest sum first.

    Equal sums stand in the order of the ids.

    Args:
        weights: of matchers, 1 where not said.

    Raises:
        UserError: a weight below 0, or of a matcher that is not there.
    """
    share = by_rank if how == "rrf" else by_score
    return added({name: share(ranking) for name, ranking in rankings.items()}, weights)


def added(
    shares: Mapping[str, Ranking], weights: Mapping[str, float] | None = None
) -> list[tuple[str, dict[str, float]]]:
    """What each matcher gives to ids, weighted and added up, as `fused` has it.

    Raises:
        UserError: a weight below 0, or of a matcher that is not there.
    """
    weights = dict(weights or {})
    for name, weight in weights.items():
        if name not in shares or not weight >= 0:
            raise UserError(
                f"weight {name}={weight}: weights are of {', '.join(shares)}, and 0 or more"
            )
    parts: dict[str, dict[str, float]] = {}
    for name, ranking in shares.items():
        weight = weights.get(name, 1.0)
        for id, share in ranking:
            if weight and name not in parts.get(id, {}):  # the first place of an id counts
                parts.setdefault(id, {})[name] = weight * share
    return sorted(parts.items(), key=lambda each: (-sum(each[1].values()), each[0]))


def by_rank(ranking: Ranking) -> list[tuple[str, float]]:
    """Ids with ``1 / (60 + rank)``; ranks count from 1."""
    return [(id, 1 / (RANK_CONSTANT + rank)) for rank, (id, _) in enumerate(ranking, start=1)]


def by_score(ranking: Ranking) -> list[tuple[str, float]]:
    """Ids with their scores on one scale: 1 for the best of the list, 0 for its last."""
    if not ranking:
        return []
    best, worst = ranking[0][1], ranking[-1][1]
    span = best - worst
    return [(id, (score - worst) / span if span > 0 else 1.0) for id, score in ranking]
