"""How often names are right: each model alone, all of them united, and ranked again.

P pictures, S stages, M models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from kmm_jax.data.sources import Source
from kmm_jax.errors import DataError
from kmm_jax.evaluation.bootstrap import share_intervals
from kmm_jax.evaluation.calibration import expected_calibration_error
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.search.naming.asking import Namer
from kmm_jax.search.naming.candidates import Candidates, feature_names
from kmm_jax.search.naming.database import NamedRows
from kmm_jax.search.naming.ranker import UNKNOWN, Example, Ranker, fit

TOPS = (1, 5)
_BATCH = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A picture that the database does not have.

    Attributes:
        name: its own.
        known: whether the database has that name.
        found: its candidates.
        without: the same, had the database not its name; None where it has not.
    """

    name: str
    known: bool
    found: Candidates
    without: Candidates | None


def ask(
    namer: Namer,
    source: Source,
    field: str,
    *,
    limit: int | None = None,
    without: bool = False,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Asked], dict[str, int]]:
    """The candidates of every picture of a source that has a name and is not in the database.

    Args:
        without: ask again as if the database did not have its name.

    Returns:
        The pictures, and how many were left out and why.

    Raises:
        DataError: none is left.
    """
    rows = NamedRows(source, field, limit=limit)
    left_out = {"without a name": rows.nameless, "bad": rows.bad, "in the database": 0}
    names = namer.database.members[0].names
    images = namer.database.members[0].images
    asked: list[Asked] = []
    waiting: list[tuple[bytes, str]] = []

    def flush() -> None:
        vectors = namer.vectors([image for image, _ in waiting])
        for number, (_, name) in enumerate(waiting):
            own = [each[number] for each in vectors]
            known = name in names
            asked.append(
                Asked(
                    name=name,
                    known=known,
                    found=namer.candidates(own),
                    without=namer.candidates(own, without=name) if known and without else None,
                )
            )
        waiting.clear()

    for number, name in enumerate(rows.names):
        try:
            row = rows.read(number)
        except DataError:
            left_out["bad"] += 1
            continue
        if row.key in images:
            left_out["in the database"] += 1
            continue
        waiting.append((row.image, name))
        if len(waiting) == _BATCH:
            flush()
            tell(number + 1, len(rows))
    if waiting:
        flush()
    tell(len(rows), len(rows))
    if not asked:
        raise DataError(
            f"{source.name}: no picture to ask about is left ("
            + ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
            + "); name other rows than those that the database was built of"
        )
    return asked, {why: count for why, count in left_out.items() if count}


def fit_ranker(namer: Namer, asked: Sequence[Asked], *, unknown: float = UNKNOWN) -> Ranker:
    """The ranker of pictures that were asked about with ``without``.

    Raises:
        UserError: too few of them.
    """
    return fit(
        list(_examples(asked)),
        features=feature_names(len(namer.encoders)),
        models=namer.database.hashes,
        unknown=unknown,
    )


def _examples(asked: Sequence[Asked]) -> Iterator[Example]:
    for each in asked:
        right = each.found.names.index(each.name) if each.name in each.found.names else -1
        if right >= 0 or not each.known:
            yield Example(features_NF=each.found.features_NF, right=right)
        if each.without is not None:
            yield Example(features_NF=each.without.features_NF, right=-1)


def score(namer: Namer, asked: Sequence[Asked], *, left_out: dict[str, int], name: str) -> Table:
    """Top 1 and top 5 of each stage, with 95 % bootstrap intervals, and what is known of "none".

    Raises:
        DataError: the database has the name of no picture.
    """
    known = [each for each in asked if each.known]
    if not known:
        raise DataError(f"{name}: the database has the name of no picture there")
    stages = [*(f"model {number}" for number in range(len(namer.encoders))), "united"]
    if namer.ranker is not None:
        stages.append("ranked again")
    places_PS = np.asarray(
        [[_place(each.name, ranking) for ranking in _rankings(namer, each.found)] for each in known]
    )
    hits = np.concatenate([places_PS < top for top in TOPS], axis=1)
    ends = share_intervals(hits)
    names = len(namer.database.members[0].names)
    scores = []
    for column, (top, stage) in enumerate((top, stage) for top in TOPS for stage in stages):
        what = f"{stage}/top{top}"
        chance = min(1.0, top / names)
        scores.append(Score(name=what, value=float(hits[:, column].mean()), chance=chance))
        for end, value in zip(("low", "high"), ends[column], strict=True):
            scores.append(Score(name=f"{what}_{end}", value=float(value)))
    among = float(np.mean([each.name in each.found.names for each in known]))
    scores.append(Score(name="among the candidates", value=among))
    scores += _of_none(namer, asked)
    left = ", ".join(f"{count:,} {why}" for why, count in left_out.items())
    return Table(
        task="names",
        title=f"Names of {name}",
        protocol=(
            f"{len(known):,} pictures whose names the database has ({names:,} names, "
            f"{len(namer.database.members[0].images):,} pictures)"
            + (f"; {left} left out" if left else "")
            + ". model N: the fusion of its nearest pictures' votes and its nearest names; united: "
            "of all models' lists, by reciprocal ranks; ranked again: by the fitted ranker. low, "
            "high: the ends of 95 % bootstrap intervals over pictures."
        ),
        scores=tuple(scores),
        facts={"pictures": len(known), "of_unknown_names": len(asked) - len(known)},
    )


def _of_none(namer: Namer, asked: Sequence[Asked]) -> Iterator[Score]:
    """Whether "none of these" is said of what has no name here, and of nothing else."""
    if namer.ranker is None:
        return
    said, sure, right = [], [], []
    for each in asked:
        for found, truth in ((each.found, each.known), (each.without, False)):
            if found is None:
                continue
            order, scores, none = namer.ranked(found)
            assert none is not None
            said.append((truth, not len(scores) or float(scores[0]) < none))
            if found is each.found and len(scores):
                sure.append(float(scores[0]))
                right.append(truth and found.names[int(order[0])] == each.name)
    for name, of in (("none said of known", True), ("none said of unknown", False)):
        some = [none for truth, none in said if truth is of]
        if some:
            yield Score(name=name, value=float(np.mean(some)))
    if sure:
        error = expected_calibration_error(np.asarray(sure), np.asarray(right))
        yield Score(name="calibration error", value=error, share=False)


def _rankings(namer: Namer, found: Candidates) -> list[Sequence[str]]:
    rankings: list[Sequence[str]] = [*found.alone, found.names]
    if namer.ranker is not None:
        order, _, _ = namer.ranked(found)
        rankings.append([found.names[place] for place in order])
    return rankings


def _place(name: str, ranking: Sequence[str]) -> int:
    return ranking.index(name) if name in ranking else len(ranking) + max(TOPS)
