"""How good a search of documents is on judged queries: each matcher alone, and their fusions.

Each query is searched once, by every matcher; fusions are worked out from what they found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from kmm_jax.errors import DataError, UserError
from kmm_jax.evaluation.bootstrap import mean_intervals
from kmm_jax.evaluation.ranking import ranking_scores
from kmm_jax.search.document_search import DocumentSearch
from kmm_jax.search.fusion import Ranking, added, fused
from kmm_jax.search.fusion_fit import LEAST, candidates, cross_validated, fit
from kmm_jax.search.judgements import JudgedQuery
from kmm_jax.search.learned_fusion import DEPTH, KINDS, MATCHERS, LearnedFusion

Ranked = Mapping[str, Sequence[str]]
"""Rankings of documents by the ids of queries."""


class Searched(NamedTuple):
    """A judged query with what each matcher found for it."""

    judged: JudgedQuery
    rankings: Mapping[str, Ranking]


class Figure(NamedTuple):
    """A mean over queries with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relevance:
    """How good a way of searching is on the queries of a kind.

    Attributes:
        way: a matcher or a fusion.
        kind: of the queries; ``all`` is each of them.
        queries: how many there are.
        ndcg, mrr: over the first ten documents, and of the first that is good enough.
    """

    way: str
    kind: str
    queries: int
    ndcg: Figure
    mrr: Figure


def search_judged(
    search: DocumentSearch,
    judged: Sequence[JudgedQuery],
    open_picture: Callable[[str], Image.Image],
    *,
    tell: Callable[[int, int], None] | None = None,
) -> list[Searched]:
    """Search with every query.

    Args:
        open_picture: a query's picture from its path.
        tell: called with the number of queries done, and of all.

    Raises:
        DataError: a picture cannot be had; names the query.
    """
    view = search.view()
    found = []
    for number, each in enumerate(judged, start=1):
        try:
            query = each.query(open_picture)
        except (DataError, OSError) as error:
            raise DataError(f"query {each.id!r}: {each.image}: {error}") from error
        vector = search.vector(query, view)
        rankings, _ = view.rankings(query, vector, DEPTH)
        found.append(Searched(each, _without(each.like, rankings)))
        if tell:
            tell(number, len(judged))
    return found


def ways(found: Sequence[Searched], learned: LearnedFusion | None = None) -> dict[str, Ranked]:
    """Rankings by each matcher alone, by ``rrf``, by ``weighted``, and by what was learned.

    A matcher that was not asked (words, of a query without text) ranks nothing.
    """
    made: dict[str, dict[str, list[str]]] = {name: {} for name in (*MATCHERS, "rrf", "weighted")}
    for each in found:
        id = each.judged.id
        for name in MATCHERS:
            made[name][id] = [document for document, _ in each.rankings.get(name, ())]
        made["rrf"][id] = _ids(fused(each.rankings, how="rrf"))
        made["weighted"][id] = _ids(fused(each.rankings, how="weighted"))
        if learned is not None:
            shares = learned.shares(each.rankings, each.judged.kind)
            made.setdefault("learned", {})[id] = _ids(added(shares))
    return dict(made)


def learn(found: Sequence[Searched], model_hash: str) -> tuple[LearnedFusion, dict[str, Ranked]]:
    """A fusion learned from judged queries, and the rankings of `ways` with it.

    Their ``learned`` are rankings by weights that were learned without the query (five folds),
    so that they say what other queries may expect; it is absent where there are too few.

    Raises:
        UserError: too few queries.
    """
    judged = [
        candidates(each.judged.id, each.judged.kind, each.rankings, each.judged.grades)
        for each in found
    ]
    weights = fit(judged)
    rankings = ways(found)
    if len(judged) >= 2 * LEAST:
        rankings["learned"] = cross_validated(judged)
    counts = {kind: sum(each.kind == kind for each in judged) for kind in KINDS}
    figures = {one.way: one.ndcg.value for one in relevance(found, rankings) if one.kind == "all"}
    about = {"queries": counts, "ndcg@10": figures, "learned": "cross-validated by query"}
    return LearnedFusion(weights=weights, model_hash=model_hash, about=about), rankings


def relevance(
    found: Sequence[Searched], rankings: Mapping[str, Ranked], *, least: float = 1.0
) -> list[Relevance]:
    """Figures of each way, for each kind of query and for all of them.

    Args:
        least: grade of a document that ends the search, for the reciprocal rank.

    Raises:
        UserError: there is no query.
    """
    if not found:
        raise UserError("no query to measure with")
    rows = []
    for kind in ("all", *KINDS):
        some = [each.judged for each in found if kind in ("all", each.judged.kind)]
        for way, ranked in rankings.items():
            if some:
                rows.append(_measured(way, kind, some, ranked, least))
    return rows


def _measured(
    way: str, kind: str, judged: Sequence[JudgedQuery], ranked: Ranked, least: float
) -> Relevance:
    scores = ranking_scores(ranked, {each.id: each.relevant for each in judged}, least=least)
    values_QM = np.stack([scores["ndcg@10"], scores["mrr"]], axis=1)
    low_high_M2 = mean_intervals(values_QM)
    ndcg, mrr = (
        Figure(float(value), float(low), float(high))
        for value, (low, high) in zip(values_QM.mean(axis=0), low_high_M2, strict=True)
    )
    return Relevance(way=way, kind=kind, queries=len(judged), ndcg=ndcg, mrr=mrr)


def _without(id: str, rankings: Mapping[str, Ranking]) -> dict[str, Ranking]:
    """Rankings without the document that others are to be like."""
    return {name: [row for row in found if row[0] != id] for name, found in rankings.items()}


def _ids(ranked: Sequence[tuple[str, Mapping[str, float]]]) -> list[str]:
    return [id for id, _ in ranked]
