"""How good rankings are where what is relevant was judged by grades.

Q queries, K places of a ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Judged = Mapping[str, float]
"""Ids and their grades, above 0; what is not judged counts as not relevant."""


def ndcg(ranking: Sequence[str], judged: Judged, *, k: int = 10) -> float:
    """Normalised discounted cumulative gain, from 0 to 1 (Järvelin and Kekäläinen, 2002).

    The gain of a place is ``2 ** grade - 1`` over ``log2(1 + place)`` (Burges et al., 2005), where
    an id that stands twice counts once; the ideal ranking has all judged by their grades.

    Raises:
        ValueError: nothing is judged relevant: there is no ideal to compare with.
    """
    gains = sorted((2.0**grade - 1 for grade in judged.values()), reverse=True)[:k]
    if not sum(gains):
        raise ValueError("nothing is judged relevant")
    places = list(dict.fromkeys(ranking))[:k]
    found = [2.0 ** judged.get(id, 0.0) - 1 for id in places]
    return _discounted(found) / _discounted(gains)


def reciprocal_rank(ranking: Sequence[str], judged: Judged, *, least: float = 1.0) -> float:
    """One over the place of the first whose grade is ``least`` or more; 0 where there is none."""
    for place, id in enumerate(dict.fromkeys(ranking), start=1):
        if judged.get(id, 0.0) >= least:
            return 1 / place
    return 0.0


def ranking_scores(
    rankings: Mapping[str, Sequence[str]],
    judgements: Mapping[str, Judged],
    *,
    k: int = 10,
    least: float = 1.0,
) -> dict[str, np.ndarray]:
    """``ndcg@k`` and ``mrr`` of each query (Q,), in the order of the judgements.

    A query without a ranking found nothing: it counts as 0. Their means are the usual figures;
    intervals over queries are ``bootstrap.mean_intervals``'s.

    Raises:
        ValueError: no judgements, or a query of which nothing is judged relevant.
    """
    if not judgements:
        raise ValueError("no query is judged")
    found: list[tuple[float, float]] = []
    for query, judged in judgements.items():
        ranking = rankings.get(query, ())
        try:
            gain = ndcg(ranking, judged, k=k)
        except ValueError as error:
            raise ValueError(f"query {query!r}: {error}") from error
        found.append((gain, reciprocal_rank(ranking, judged, least=least)))
    gains, ranks = np.asarray(found).T
    return {f"ndcg@{k}": gains, "mrr": ranks}


def _discounted(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(place + 1) for place, gain in enumerate(gains, start=1)))
