"""One ranking of several matchers' rankings.

``rrf`` needs no scores (Cormack, Clarke and Buettcher, SIGIR 2009); ``weighted`` adds scores that
were brought to one scale: the best of a list is 1, the last of it, or what is not in it, 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from kmm_jax.errors import UserError

Fusion = Literal["rrf", "weighted"]
Ranking = Sequence[tuple[str, float]]
"""Ids with their scores, best first."""

RANK_CONSTANT = 60


def fused(
    rankings: Mapping[str, Ranking],
    *,
    how: Fusion = "rrf",
    weights: Mapping[str, float] | None = None,
) -> list[tuple[str, dict[str, float]]]:
    """Ids with what each matcher adds to their score, the highest sum first.

    Equal sums stand in the order of the ids.

    Args:
        weights: of matchers, 1 where not said.

    Raises:
        UserError: a weight below 0, or of a matcher that is not there.
    """
    weights = dict(weights or {})
    for name, weight in weights.items():
        if name not in rankings or not weight >= 0:
            raise UserError(
                f"weight {name}={weight}: weights are of {', '.join(rankings)}, and 0 or more"
            )
    parts: dict[str, dict[str, float]] = {}
    for name, ranking in rankings.items():
        weight = weights.get(name, 1.0)
        for id, share in _shares(ranking, how):
            if weight and name not in parts.get(id, {}):  # the first place of an id counts
                parts.setdefault(id, {})[name] = weight * share
    return sorted(parts.items(), key=lambda each: (-sum(each[1].values()), each[0]))


def _shares(ranking: Ranking, how: Fusion) -> list[tuple[str, float]]:
    if how == "rrf":
        return [(id, 1 / (RANK_CONSTANT + rank)) for rank, (id, _) in enumerate(ranking, start=1)]
    if not ranking:
        return []
    best, worst = ranking[0][1], ranking[-1][1]
    span = best - worst
    return [(id, (score - worst) / span if span > 0 else 1.0) for id, score in ranking]
