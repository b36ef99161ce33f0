"""The table of slide 5.2: how many thumbnails models show, and how good those are.

A picture's score is the median of its raters', of an even number the lower one of the middle two:
no picture is better than a dangerous one. Intervals are bootstrapped over queries, since documents
of one query are not independent.

The slide's row "Image_score > 3" holds what is *not* above 2: 60 - 47 = 13, 49 - 45 = 4,
44 - 42 = 2, and no mean of 3.455 comes of two scores above 3 among 44. Here that row is called what
it is, and the share above 3 is given beside it.
"""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.evaluation import bootstrap
from kmm_jax.evaluation.floor import Floor, calibrate
from kmm_jax.evaluation.thumbnail_log import LEAST, MOST, Item, Label, Log, Pair, Pick
from kmm_jax.evaluation.weighted_kappa import Agreement, agreements

POOR = 2
"""Scores up to it are of low quality (slide 5.2), and 1 is dangerous."""

_FOLDS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A share or a mean with its interval of 95 %; None where it is of nothing.

    Attributes:
        count: of what is in the share; None for a mean.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A model in the table.

    Attributes:
        pairs: of query and document, in all.
        coverage: pairs with a picture; all else is of those.
        over_2, over_3: pictures that score more.
        poor: those that score 1 or 2; ``dangerous``, 1.
        mean: score of what is shown.
        floor: found from labels; None where the model's own choice is told.
    """

    model: str
    pairs: int
    coverage: Figure
    over_2: Figure
    over_3: Figure
    poor: Figure
    dangerous: Figure
    mean: Figure
    floor: Floor | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThumbnailTable:
    """What labels say.

    Attributes:
        columns: of each model, and, where a floor was sought, of each with its floor.
        pairs, of_pairs: those that could be scored, and those there are.
        raters: with the number of pictures that each scored.
        agreement: of every two of them.
        strange: labels of pictures that no model chose.
    """

    columns: tuple[Column, ...]
    pairs: int
    of_pairs: int
    raters: Mapping[str, int]
    agreement: tuple[Agreement, ...]
    strange: int


def scores_by_rater(labels: Iterable[Label]) -> dict[str, dict[Item, int]]:
    """What each rater said last of each item, raters in the order of their names."""
    found: dict[str, dict[Item, int]] = collections.defaultdict(dict)
    for label in labels:
        if label.score is None:
            found[label.rater].pop(label.item, None)
        else:
            found[label.rater][label.item] = label.score
    return {rater: found[rater] for rater in sorted(found) if found[rater]}


def judged(raters: Mapping[str, Mapping[Item, int]]) -> dict[Item, int]:
    """The score of each item: the median of its raters', the lower one of two."""
    every: dict[Item, list[int]] = collections.defaultdict(list)
    for scores in raters.values():
        for item, score in scores.items():
            every[item].append(score)
    return {item: statistics.median_low(scores) for item, scores in every.items()}


def column(
    model: str,
    scores_N: np.ndarray,
    shown_N: np.ndarray,
    queries_N: Sequence[Hashable],
    *,
    floor: Floor | None = None,
) -> Column:
    """The figures of a model.

    Args:
        scores_N: of the picture of each pair; what is not shown does not count.
        shown_N: whether it is.
        queries_N: of each pair; those of one query are resampled together.
    """
    numbers = {query: number for number, query in enumerate(dict.fromkeys(queries_N))}
    groups_N = np.asarray([numbers[query] for query in queries_N])
    shown_N = np.asarray(shown_N, bool)
    scores_S, groups_S = np.asarray(scores_N)[shown_N], groups_N[shown_N]
    shares = [scores_S > 2, scores_S > 3, scores_S <= POOR, scores_S == 1]
    over_2, over_3, poor, dangerous = _shares(np.stack(shares, axis=1), groups_S)
    mean = Figure(value=None)
    if len(scores_S):
        low, high = bootstrap.mean_intervals(scores_S[:, None], groups_N=groups_S)[0]
        if len(np.unique(groups_S)) < 2:
            low, high = LEAST, MOST
        mean = Figure(value=float(scores_S.mean()), low=float(low), high=float(high))
    return Column(
        model=model,
        pairs=len(shown_N),
        coverage=_shares(shown_N[:, None], groups_N)[0],
        over_2=over_2,
        over_3=over_3,
        poor=poor,
        dangerous=dangerous,
        mean=mean,
        floor=floor,
    )


def table(
    logs: Sequence[Log],
    *,
    most_bad: float | None = None,
    sure: float | None = None,
    bad: int = POOR,
) -> ThumbnailTable:
    """The table of all models in some files, which may be of several raters.

    Pairs count of which every picture that any model shows (with ``most_bad``, chose) was scored.

    Args:
        most_bad: finds a floor of each model that leaves at most this share of bad pictures, and
            adds a column with it. The column is honest: the pictures of a fifth of the queries are
            filtered by the floor that the other fifths' labels give. ``sure`` as ``calibrate``.
        bad: scores up to it are bad.

    Raises:
        DataError: files that contradict each other, models that chose on other pairs, or not one
            pair that is labelled.
        ConfigError: a bound or a probability that is none.
    """
    models = choices([pick for log in logs for pick in log.picks])
    raters = scores_by_rater(label for log in logs for label in log.labels)
    scores = judged(raters)
    chosen = {pick.item for picks in models.values() for pick in picks.values() if pick.image}
    every = list(next(iter(models.values())))

    def is_scored(pair: Pair) -> bool:
        of_pair = [picks[pair] for picks in models.values()]
        needed = [pick.item for pick in of_pair if pick.shown or (most_bad is not None)]
        return all(item is None or item in scores for item in needed)

    pairs = [pair for pair in every if is_scored(pair)]
    if not pairs:
        raise DataError(
            f"of {len(every):,} pairs of query and document not one is labelled; label them with "
            "kmm label thumbnail"
        )
    columns = []
    for model, picks in models.items():
        of_model = [picks[pair] for pair in pairs]
        columns.append(_column(model, of_model, scores, [pick.shown for pick in of_model]))
        if most_bad is not None:
            columns.append(_floored(model, of_model, scores, most_bad, sure, bad))
    return ThumbnailTable(
        columns=tuple(columns),
        pairs=len(pairs),
        of_pairs=len(every),
        raters={rater: len(given) for rater, given in raters.items()},
        agreement=tuple(agreements(raters)),
        strange=sum(item not in chosen for item in scores),
    )


def choices(picks: Sequence[Pick]) -> dict[str, dict[Pair, Pick]]:
    """What each model chose on each pair, the same pairs in the same order for all.

    Raises:
        DataError: no picks, two choices of a model on a pair, or models that chose on other pairs.
    """
    found: dict[str, dict[Pair, Pick]] = collections.defaultdict(dict)
    for pick in picks:
        before = found[pick.model].setdefault(pick.pair, pick)
        if (before.image, before.similarity, before.shown) != (
            pick.image,
            pick.similarity,
            pick.shown,
        ):
            raise DataError(
                f"the model {pick.model!r} has two choices for {pick.pair.query!r} and the "
                f"document {pick.pair.document!r}: name different models differently"
            )
    if not found:
        raise DataError("no model's choices are in these files; kmm label thumbnail puts them in")
    every = dict.fromkeys(pair for picks in found.values() for pair in picks)
    for model, of_model in found.items():
        missing = [pair for pair in every if pair not in of_model]
        if missing:
            raise DataError(
                f"the model {model!r} says nothing of {len(missing):,} of {len(every):,} pairs, "
                f"such as {missing[0].query!r} and the document {missing[0].document!r}; let all "
                "models choose on the same pairs (kmm documents thumbnail --pairs)"
            )
    return {model: {pair: of_model[pair] for pair in every} for model, of_model in found.items()}


def _column(
    model: str,
    picks: Sequence[Pick],
    scores: Mapping[Item, int],
    shown: Sequence[bool],
    floor: Floor | None = None,
) -> Column:
    scores_N = np.asarray([scores.get(pick.item, 0) if pick.item else 0 for pick in picks])
    return column(model, scores_N, np.asarray(shown, bool), _queries(picks), floor=floor)


def _queries(picks: Sequence[Pick]) -> list[tuple[str, str]]:
    return [(pick.pair.query, pick.pair.query_image) for pick in picks]


def _floored(
    model: str,
    picks: Sequence[Pick],
    scores: Mapping[Item, int],
    most_bad: float,
    sure: float | None,
    bad: int,
) -> Column:
    there = [number for number, pick in enumerate(picks) if pick.image]
    similarity_N = np.full(len(picks), -np.inf)
    bad_N = np.zeros(len(picks), bool)
    for number in there:
        pick = picks[number]
        assert pick.item is not None and pick.similarity is not None
        similarity_N[number], bad_N[number] = pick.similarity, scores[pick.item] <= bad
    numbers = {query: n for n, query in enumerate(dict.fromkeys(_queries(picks)))}
    order = np.random.default_rng(0).permutation(len(numbers))
    fold_N = np.asarray([order[numbers[query]] % _FOLDS for query in _queries(picks)])
    shown_N = np.zeros(len(picks), bool)
    there_N = np.isfinite(similarity_N)
    nothing = Floor(value=float("inf"), shown=0, bad=0, labelled=0)

    def floor_of(which_N: np.ndarray) -> Floor:
        if not which_N.any():
            return nothing
        return calibrate(similarity_N[which_N], bad_N[which_N], most_bad=most_bad, sure=sure)

    found = floor_of(there_N)
    # Where no floor does, there is none to use, though fewer labels may have given one.
    for fold in range(_FOLDS if found.shown else 0):
        held_N = there_N & (fold_N == fold)
        shown_N[held_N] = similarity_N[held_N] >= floor_of(there_N & (fold_N != fold)).value
    return _column(model, picks, scores, shown_N.tolist(), found)


def _shares(hits_SM: np.ndarray, groups_S: np.ndarray) -> list[Figure]:
    if not len(hits_SM):
        return [Figure(value=None, count=0)] * hits_SM.shape[1]
    intervals = bootstrap.share_intervals(hits_SM, groups_N=groups_S)
    if len(np.unique(groups_S)) < 2:  # one query says nothing of others
        intervals[:] = 0.0, 1.0
    return [
        Figure(
            value=float(hits_S.mean()), low=float(low), high=float(high), count=int(hits_S.sum())
        )
        for hits_S, (low, high) in zip(hits_SM.T, intervals, strict=True)
    ]
