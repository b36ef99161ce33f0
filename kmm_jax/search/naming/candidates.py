"""Names that a picture may have, from all models, and what speaks for each.

M models, N candidates, F features, D dimensions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from kmm_jax.retrieval.compose import fuse
from kmm_jax.search.naming.database import NAME, Member

NEIGHBOURS = 50
"""Pictures, and names, that each model is asked for."""

TEMPERATURE = 0.07  # of the votes, as of the k-NN of DINO (arXiv 2104.14294)
_FEW_PICTURES = 500
_ALL_NAMES = 2_000  # so many are all compared in one search
_AGREED = 5  # first names of a list that count as agreement
OF_MODEL = ("nearest", "votes", "text")
OF_ALL = ("ranks", "agreement")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
    """What the models say of one picture.

    Attributes:
        names: of all candidates, the best by the fusion of ranks first.
        features_NF: of each: of each model the cosine of its nearest picture (``nearest``), the
            share of the neighbours' votes (``votes``) and the cosine with the name (``text``); then
            the sum of reciprocal ranks over all lists and the share of lists that have it in front.
        alone: of each model, its own ranking.
    """

    names: tuple[str, ...]
    features_NF: np.ndarray
    alone: tuple[tuple[str, ...], ...]


def feature_names(models: int) -> tuple[str, ...]:
    """Of the columns of ``features_NF``."""
    return (*(f"{name}/{model}" for model in range(models) for name in OF_MODEL), *OF_ALL)


def candidates(
    members: Sequence[Member],
    vectors: Sequence[np.ndarray],
    *,
    k: int = NEIGHBOURS,
    without: str | None = None,
) -> Candidates:
    """The candidates of a picture.

    Args:
        vectors: of the picture (D,), one of each model.
        without: a name that is left out, as if the database did not have it.
    """
    lists: list[list[str]] = []
    alone: list[tuple[str, ...]] = []
    seen: list[tuple[dict[str, float], float, dict[str, float], dict[str, float]]] = []
    for member, vector in zip(members, vectors, strict=True):
        near, least, votes = _by_pictures(member, vector, k, without)
        of_texts = _by_texts(member, vector, k, without)
        texts = list(of_texts)[:k]
        by_votes = sorted(votes, key=lambda name: (-votes[name], name))
        lists += [by_votes, texts]
        alone.append(tuple(name for name, _ in fuse([by_votes, texts])))
        seen.append((near, least, votes, of_texts))
    united = fuse(lists)
    names = tuple(name for name, _ in united)
    ranks = dict(united)
    heads = [set(each[:_AGREED]) for each in lists]
    columns: list[list[float]] = []
    for (near, least, votes, of_texts), member, vector in zip(seen, members, vectors, strict=True):
        columns.append([near.get(name, least) for name in names])
        columns.append([votes.get(name, 0.0) for name in names])
        columns.append(
            [
                of_texts[name] if name in of_texts else float(member.names.vector(name) @ vector)
                for name in names
            ]
        )
    columns.append([ranks[name] for name in names])
    columns.append([sum(name in head for head in heads) / len(heads) for name in names])
    return Candidates(
        names=names,
        features_NF=np.asarray(columns, np.float64).T.reshape(len(names), len(columns)),
        alone=tuple(alone),
    )


def _by_pictures(
    member: Member, vector: np.ndarray, k: int, without: str | None
) -> tuple[dict[str, float], float, dict[str, float]]:
    """Of each name among the nearest pictures the highest cosine; the lowest of all; the votes."""
    if without is None or without not in member.names:
        found = member.images.search(vector, k)
    elif (own := member.names.columns([without])[0]["pictures"]) > _FEW_PICTURES:
        found = member.images.search(vector, k, where={NAME: {"ne": without}})
    else:  # a filter looks at every row; this gives the same
        found = member.images.search(vector, k + own)
    ids, scores = found.ids[0], found.scores[0].astype(np.float64)
    names = [row[NAME] for row in member.images.columns(ids)]
    kept = [place for place, name in enumerate(names) if name != without][:k]
    names, scores = [names[place] for place in kept], scores[kept]
    if not len(scores):
        return {}, -1.0, {}
    weights = np.exp((scores - scores[0]) / TEMPERATURE)
    near: dict[str, float] = {}
    votes: dict[str, float] = {}
    for name, score, weight in zip(names, scores, weights / weights.sum(), strict=True):
        near.setdefault(name, float(score))
        votes[name] = votes.get(name, 0.0) + float(weight)
    # A name that is not among them has no picture that is nearer than the last of them.
    return near, float(scores[-1]), votes


def _by_texts(member: Member, vector: np.ndarray, k: int, without: str | None) -> dict[str, float]:
    """Cosines of the nearest names, or of all where there are few; the highest first."""
    count = len(member.names)
    wanted = count if count <= _ALL_NAMES else k + (without is not None)
    found = member.names.search(vector, wanted)
    return {
        name: float(score)
        for name, score in zip(found.ids[0], found.scores[0], strict=True)
        if name != without
    }
