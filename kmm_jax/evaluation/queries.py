"""Queries made of images against the queries that people found them by (slide 3.2).

Exact matches alone would say nothing of a query that means the same in other words, so a generated
query is also searched with: its text ranks all distinct queries of the set, and the record's own
should come first.

N rows, U distinct generated queries, T distinct queries of the set, P queries of all records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kmm_jax.errors import ConfigError
from kmm_jax.evaluation.dataset import EvaluationData, EvaluationSet, check_data, encode
from kmm_jax.evaluation.encoders import Functions, finite
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.text.normalize import normalize
from kmm_jax.text.styles import Style

KS = (1, 5, 10)
# Vectors this near in float32 are the same to a search; such a tie counts against the query.
_TIE = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryScores:
    """How near generated queries come to their records' own.

    Chance is the same queries dealt to records at random, exactly: the mean over all pairs of a
    generated query and a record. So a model that says the commonest query of every image has no
    more than chance, however common it is.

    Attributes:
        exact: share that equals one of its record's queries, normalised.
        at: k to the share whose record has a query among the k nearest to it.
        median_rank: of the nearest of the record's queries among all, from 1.
    """

    exact: float
    at: dict[int, float]
    median_rank: float
    chance_exact: float
    chance_at: dict[int, float]
    chance_median_rank: float


def compare_queries(
    generated: Sequence[str],
    own: Sequence[Sequence[str]],
    embed: Callable[[Sequence[str]], np.ndarray],
) -> QueryScores:
    """Score each row's generated query against its record's own queries, at least one each.

    The rank of a record is 1 + the number of other records' queries that lie at least as near to
    the generated query as the nearest of its own. Ties count against it, so an encoder whose
    vectors are all equal finds nothing.

    Args:
        embed: texts to unit vectors (n, E) float32. Compare models by one encoder for all: a
            model's own may have changed with it.

    Raises:
        ValueError: no row, not one entry a row, or a row without a query.
    """
    if not generated or len(generated) != len(own) or not all(own):
        raise ValueError("give at least one generated query, and queries of its own for each")
    said = {text: number for number, text in enumerate(dict.fromkeys(map(normalize, generated)))}
    known: dict[str, int] = {}
    own_N = [
        np.unique([known.setdefault(normalize(text), len(known)) for text in texts])
        for texts in own
    ]
    said_N = np.asarray([said[normalize(text)] for text in generated])
    counts_U = np.bincount(said_N, minlength=len(said))
    similarity_UT = embed(list(said)) @ embed(list(known)).T
    rank_N = np.zeros(len(own_N), np.int64)
    of_rank_T = np.zeros(len(known) + 1, np.int64)  # pairs of a generated query and a record
    exact_N = np.zeros(len(own_N), bool)
    exact_pairs = 0
    for number, text in enumerate(said):
        rank_of_N = _ranks(similarity_UT[number], own_N)
        equal_N = np.asarray([known.get(text, -1) in found for found in own_N])
        here_N = said_N == number
        rank_N[here_N], exact_N[here_N] = rank_of_N[here_N], equal_N[here_N]
        of_rank_T += counts_U[number] * np.bincount(rank_of_N, minlength=len(of_rank_T))
        exact_pairs += int(counts_U[number] * equal_N.sum())
    pairs = len(own_N) ** 2
    shares_T = np.cumsum(of_rank_T) / pairs
    return QueryScores(
        exact=float(exact_N.mean()),
        at={k: float((rank_N <= k).mean()) for k in KS},
        median_rank=float(np.median(rank_N)),
        chance_exact=exact_pairs / pairs,
        chance_at={k: float(shares_T[min(k, len(known))]) for k in KS},
        chance_median_rank=float(np.searchsorted(shares_T, 0.5)),
    )


def _ranks(similarity_T: np.ndarray, own_N: Sequence[np.ndarray]) -> np.ndarray:
    """The rank of every record's nearest query to one generated query, from 1."""
    item_P = np.concatenate(own_N)
    start_N = np.cumsum([0, *(len(found) for found in own_N[:-1])])
    best_N = np.maximum.reduceat(similarity_T[item_P], start_N)
    least_N = best_N - _TIE
    near_N = len(similarity_T) - np.searchsorted(np.sort(similarity_T), least_N)
    row_P = np.repeat(np.arange(len(own_N)), [len(found) for found in own_N])
    own_near_P = similarity_T[item_P] >= least_N[row_P]
    return 1 + near_N - np.bincount(row_P, own_near_P, len(own_N)).astype(np.int64)


def score_queries(
    rows: EvaluationSet,
    embed: Callable[[Sequence[str]], np.ndarray],
    *,
    style: Style | None,
    field: str = "query",
    encoder: str = "the model's own text encoder",
) -> Table:
    """Score the queries that were made of the set's images (its captions in ``style``).

    Args:
        field: the record's field of queries, ``query`` or ``query_en``.
        encoder: what ``embed`` is, for people.

    Raises:
        ConfigError: no such field, or the set holds no captions in this style.
        DataError: no row has a query.
    """
    if style not in rows.captions:
        raise ConfigError(
            f"no queries were made of {rows.name}; caption it in the style {style!r}, and use a "
            "model that captions (configs/coca)"
        )
    every = rows.texts(field)
    which = [row for row, texts in enumerate(every) if texts]
    own = [every[row] for row in which]
    found = compare_queries([rows.captions[style][row] for row in which], own, embed)
    gallery = len({text for texts in own for text in texts})
    scores = [Score(name="exact", value=found.exact, chance=found.chance_exact)]
    scores += [
        Score(name=f"nearest/r{k}", value=found.at[k], chance=found.chance_at[k]) for k in KS
    ]
    scores.append(
        Score(
            name="nearest/median_rank",
            value=found.median_rank,
            chance=found.chance_median_rank,
            share=False,
        )
    )
    return Table(
        task="queries",
        title=f"Queries made of images: {field}",
        protocol=(
            f"{len(which):,} images of {rows.name}, a query each, greedy. exact: equal to one of "
            f"the record's {field} texts, normalised. nearest: the generated query ranks all "
            f"{gallery:,} distinct queries of the set by cosine ({encoder}); any of the record's "
            "own among the first k counts, ties count against. chance: the same generated queries "
            "dealt to records at random, exactly."
        ),
        scores=tuple(scores),
        facts={"images": len(which), "gallery": gallery},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryEvaluator:
    """Queries made of images while a model trains; yields nothing for a task without captions.

    Yields ``<name>/exact`` and so on (:func:`score_queries`), by the model's own text encoder.

    Attributes:
        every: a duration (``"20%"``, ``"1000 steps"``).
        data: the evaluation set, and what the model takes.
        field, style: the record's queries, and the style they are made in; None for a model
            without style tokens.
    """

    name: str = "queries"
    every: str = "20%"
    data: EvaluationData
    field: str = "query"
    style: Style | None = "query"

    def check(self) -> None:
        """Refuse a field that there is not, or that no row of the data has."""
        check_data(self.data, lambda rows: rows.texts(self.field))

    def run(self, functions: Functions, params: Any) -> Iterator[tuple[str, float]]:
        """Read the set, make a query of each image, and yield (name, value)."""
        if "caption" not in functions:
            return
        encoder, rows = encode(
            self.data, functions, params, caption_styles=(self.style,), vectors=False
        )

        def embed(texts: Sequence[str]) -> np.ndarray:
            return finite(encoder.text(texts, self.style), "text")

        table = score_queries(rows, embed, style=self.style, field=self.field)
        for name, value in table.metrics():
            yield f"{self.name}/{name}", value
