"""Learning a fusion from judged queries, by a convex loss over each query's candidates.

The softmax of the candidates' scores is to be the share of each in the query's gain (ListNet: Cao
et al., ICML 2007; that such a cross-entropy bounds nDCG: Bruch et al., ICTIR 2019). The scores are
linear in few features, so that there is one best solution and it is found whole.

It begins with the best fixed rule (a matcher alone, ``rrf`` or ``weighted``, all of which are
weights of the features) and is pulled towards it; what ranks the judged queries better, the rule or
what was learned, is kept. So it is never worse on them than the best fixed rule. How it does on
queries it did not see is `cross_validated`'s to say.

C candidates of a query, N candidates of all queries, Q queries, F features of all matchers.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.search.fusion import Ranking
from kmm_jax.search.learned_fusion import FEATURES, KINDS, MATCHERS, Kind, features_of

LEAST = 10
"""Judged queries of a kind from which it has weights of its own."""

_K = 10
_PULL = 0.1  # towards the fixed rule, beside a mean of cross-entropies
_STEPS = 100  # of the solver, which as a rule needs fewer

Weights = dict[Kind, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
    """What matchers found for a judged query.

    Attributes:
        id, kind: of the query.
        ids: of the documents that any of them found, sorted.
        features_CF: their features.
        grades_C: 0 for what is not judged.
        ideal: the discounted gain of the best ranking of all that is judged, found or not.
    """

    id: str
    kind: Kind
    ids: tuple[str, ...]
    features_CF: np.ndarray
    grades_C: np.ndarray
    ideal: float

    def ndcg(self, weight_F: np.ndarray) -> float:
        """nDCG@10 of the ranking by these weights; equal scores stand in the order of ids."""
        order_C = _order(self.features_CF @ weight_F)[:_K]
        return float((_gain(self.grades_C[order_C]) * _discount(len(order_C))).sum() / self.ideal)


def candidates(
    id: str, kind: Kind, rankings: Mapping[str, Ranking], grades: Mapping[str, float]
) -> Candidates:
    """Put together what matchers found.

    Raises:
        UserError: a matcher that a learned fusion knows nothing of.
        ValueError: nothing is judged relevant.
    """
    if strange := set(rankings) - set(MATCHERS):
        raise UserError(f"a learned fusion knows {', '.join(MATCHERS)} and no {min(strange)!r}")
    of = {name: features_of(ranking) for name, ranking in rankings.items()}
    ids = tuple(sorted({each for found in of.values() for each in found}))
    nothing_F = np.zeros(len(FEATURES))
    rows = [
        np.concatenate([of.get(name, {}).get(each, nothing_F) for name in MATCHERS]) for each in ids
    ]
    best = np.sort(np.asarray([grade for grade in grades.values() if grade > 0], float))[::-1][:_K]
    if not len(best):
        raise ValueError(f"query {id!r}: nothing is judged relevant")
    return Candidates(
        id=id,
        kind=kind,
        ids=ids,
        features_CF=np.asarray(rows).reshape(len(ids), len(MATCHERS) * len(FEATURES)),
        grades_C=np.asarray([float(grades.get(each, 0.0)) for each in ids]),
        ideal=float((_gain(best) * _discount(len(best))).sum()),
    )


def fit(judged: Sequence[Candidates]) -> Weights:
    """Weights (M, F) for each kind of query.

    A kind with fewer than `LEAST` queries has the weights that all queries together give.

    Raises:
        UserError: no query, or fewer than `LEAST` in all.
    """
    if len(judged) < LEAST:
        raise UserError(
            f"{len(judged)} judged queries: a fusion is learned from {LEAST} or more; choose rrf "
            "or weighted until there are as many"
        )
    by_kind = {kind: [each for each in judged if each.kind == kind] for kind in KINDS}
    together: np.ndarray | None = None
    weights: Weights = {}
    for kind, some in by_kind.items():
        if len(some) >= LEAST:
            found_F = _fit_one(some)
        else:
            together = _fit_one(judged) if together is None else together
            found_F = together
        weights[kind] = found_F.reshape(len(MATCHERS), len(FEATURES))
    return weights


def cross_validated(judged: Sequence[Candidates], *, folds: int = 5) -> dict[str, list[str]]:
    """The ranking of each query by weights that were learned without it, by the query's id.

    Queries of each kind are dealt to the folds in the order of a hash of their ids.

    Raises:
        UserError: too few queries; see `fit`.
    """
    place: dict[str, int] = {}
    for kind in KINDS:
        some = sorted(
            (each.id for each in judged if each.kind == kind),
            key=lambda id: hashlib.sha256(id.encode()).digest(),
        )
        place |= {id: number % folds for number, id in enumerate(some)}
    found: dict[str, list[str]] = {}
    for fold in sorted(set(place.values())):
        weights = fit([each for each in judged if place[each.id] != fold])
        for each in judged:
            if place[each.id] == fold:
                found[each.id] = ranked(each, weights)
    return {each.id: found[each.id] for each in judged}


def ranked(one: Candidates, weights: Mapping[Kind, np.ndarray]) -> list[str]:
    """A query's candidates, the best first."""
    order_C = _order(one.features_CF @ weights[one.kind].ravel())
    return [one.ids[number] for number in order_C]


def fixed_rules() -> dict[str, np.ndarray]:
    """Rules that need no learning as weights (M * F,) of the features."""
    rules: dict[str, np.ndarray] = {}
    for name, chosen, feature in (
        *((matcher, (matcher,), "rank") for matcher in MATCHERS),
        ("rrf", MATCHERS, "rank"),
        ("weighted", MATCHERS, "share"),
    ):
        weight_MF = np.zeros((len(MATCHERS), len(FEATURES)))
        for matcher in chosen:
            weight_MF[MATCHERS.index(matcher), FEATURES.index(feature)] = 1.0
        rules[name] = weight_MF.ravel()
    return rules


def _fit_one(judged: Sequence[Candidates]) -> np.ndarray:
    """Weights (F,) of features for queries that are alike."""

    def mean_ndcg(weight_F: np.ndarray) -> float:
        return float(np.mean([each.ndcg(weight_F) for each in judged]))

    rules = fixed_rules()
    best = max(rules, key=lambda name: mean_ndcg(rules[name]))
    begin_F = rules[best]
    learned_F = _solved(judged, begin_F)
    # What was learned has to be worth something.
    return learned_F if mean_ndcg(learned_F) > mean_ndcg(begin_F) else begin_F


def _solved(judged: Sequence[Candidates], begin_F: np.ndarray) -> np.ndarray:
    """The weights of least loss: ``a * begin + d / scale``, with ``d`` kept small."""
    from scipy.optimize import minimize

    some = [each for each in judged if each.grades_C.any()]  # nothing relevant teaches nothing
    if not some:
        return begin_F
    features_NF = np.concatenate([each.features_CF for each in some])
    scale_F = features_NF.std(axis=0)
    scale_F[scale_F < 1e-9] = np.inf  # what never differs tells nothing
    columns_NG = np.concatenate([(features_NF @ begin_F)[:, None], features_NF / scale_F], axis=1)
    pull_G = np.asarray([0.0] + [_PULL] * len(scale_F))
    start_Q = np.cumsum([0, *(len(each.ids) for each in some[:-1])])
    query_N = np.repeat(np.arange(len(some)), [len(each.ids) for each in some])
    gain_N = np.concatenate([_gain(each.grades_C) for each in some])
    target_N = gain_N / np.add.reduceat(gain_N, start_Q)[query_N]

    def loss(x_G: np.ndarray) -> tuple[float, np.ndarray]:
        return _cross_entropy(x_G, columns_NG, target_N, start_Q, query_N, pull_G)

    start_G = np.zeros(columns_NG.shape[1])
    start_G[0] = 1.0
    found = minimize(loss, start_G, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return found.x[0] * begin_F + found.x[1:] / scale_F


def _cross_entropy(
    x_G: np.ndarray,
    columns_NG: np.ndarray,
    target_N: np.ndarray,
    start_Q: np.ndarray,
    query_N: np.ndarray,
    pull_G: np.ndarray,
) -> tuple[float, np.ndarray]:
    """The mean over queries with what the pull costs, and its gradient (G,)."""
    score_N = columns_NG @ x_G
    score_N = score_N - np.maximum.reduceat(score_N, start_Q)[query_N]
    power_N = np.exp(score_N)
    sum_Q = np.add.reduceat(power_N, start_Q)
    queries = len(start_Q)
    value = float((np.log(sum_Q).sum() - target_N @ score_N) / queries)
    slope_N = (power_N / sum_Q[query_N] - target_N) / queries
    value += float((pull_G * x_G**2).sum() / 2)
    return value, columns_NG.T @ slope_N + pull_G * x_G


def _order(score_C: np.ndarray) -> np.ndarray:
    """Numbers of the highest scores first; equal ones in their order, which is that of the ids."""
    return np.argsort(-score_C, kind="stable")


def _gain(grade_C: np.ndarray) -> np.ndarray:
    return 2.0**grade_C - 1


def _discount(count: int) -> np.ndarray:
    return 1 / np.log2(np.arange(count) + 2)
