"""What ScaNN learns of an index's vectors, and the settings found for a wanted recall.

Letters: Q queries, N rows, D dimensions.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.retrieval import scann_engine
from kmm_jax.retrieval.scann_engine import ScannSearcher
from kmm_jax.retrieval.settings import HASHED_BELOW, IndexSettings, for_rows
from kmm_jax.retrieval.trial import Trial
from kmm_jax.retrieval.tuning import REORDERS, Tried, climb, fastest, most_accurate, pairs
from kmm_jax.retrieval.vectors import UnitRows

_log = logging.getLogger("kmm_jax.retrieval")

QUERIES = 1_000  # to choose by, and as many others to say what the choice reaches
_TIMED = 250
_NEARLY = 0.005  # of recall, given up for speed where what was wanted cannot be had

# Below so many rows comparing with all of them is as fast as anything.
_TREE_FROM = 2_000

# What `Tuning.thorough` varies, in this order; leaves as multiples of the square root of the rows.
_LEAVES = (0.5, 1.0, 2.0, 4.0)
_LADDERS: dict[str, tuple[Any, ...]] = {
    "dims_per_block": (2, 4),
    "anisotropic_threshold": (0.1, 0.2, 0.3),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """How settings for a wanted recall are looked for, beside what an index's settings say.

    Attributes:
        queries: (Q, D) like those that will be asked: half of them choose, half tell what the
            choice reaches. By default vectors of the index, each without itself among the found.
        thorough: try other leaves, hashes and layouts too, each of which is built; and refuse,
            rather than warn, where none reaches what is wanted.
        builds: how many are tried, at most; by default all that one setting after another leads to.
        told: called with the fastest search of each build, while there is more to do.
    """

    queries: np.ndarray | None = None
    thorough: bool = False
    builds: int | None = None
    told: Callable[[Tried], None] = lambda _: None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learnt:
    """What was learnt and saved, and how it is searched."""

    searcher: ScannSearcher
    settings: IndexSettings
    tried: tuple[Tried, ...] = ()


def learn(unit_ND: np.ndarray, settings: IndexSettings, folder: Path, file: Path) -> Learnt:
    """Learn with settings chosen by ``for_rows``, and save.

    Args:
        folder: to save in.
        file: of the vectors.
    """
    searcher = scann_engine.train(unit_ND, settings)
    searcher.save(folder, file)
    return Learnt(searcher=searcher, settings=settings)


def start(settings: IndexSettings, rows: int, tuning: Tuning) -> IndexSettings:
    """All that is chosen by size before anything is measured.

    A thorough tuning begins with a tree, which is faster than hashes alone almost always.

    Raises:
        ConfigError: as ``for_rows``.
    """
    if tuning.thorough and settings.layout == "auto" and rows >= _TREE_FROM:
        settings = dataclasses.replace(settings, layout="tree")
    return for_rows(settings, rows)


def trials(given: UnitRows, queries: np.ndarray | None) -> tuple[Trial, Trial]:
    """Queries to choose settings by, and others that tell what the choice reaches."""
    if queries is not None:
        trial = Trial.of_queries(given, queries)
    else:
        rng = np.random.default_rng(0)
        count = min(2 * QUERIES, len(given))
        trial = Trial.of_rows(given, np.sort(rng.choice(len(given), count, replace=False)))
    if len(trial) < 2:
        return trial, trial
    return trial[::2], trial[1::2]


def learn_for_recall(
    unit_ND: np.ndarray,
    settings: IndexSettings,
    folder: Path,
    file: Path,
    *,
    trial: Trial,
    tuning: Tuning,
) -> Learnt:
    """Learn, and find the fastest search whose recall reaches ``settings.recall``.

    Args:
        settings: as they were given: what is not said in them is looked for.
        folder, file: as `learn` has them.

    Raises:
        UserError: nothing reaches it, where the tuning is thorough. Else the search that comes
            nearest, but for half a point that would cost most, is kept, with a warning.
    """
    rows = len(unit_ND)
    assert settings.recall is not None
    wanted, kept, tried = settings.recall, _Kept(folder, file), list[Tried]()

    def measured(structure: IndexSettings) -> Tried | None:
        chosen = for_rows(structure, rows)
        searcher = scann_engine.train(unit_ND, chosen)
        found = searches(searcher, chosen, settings, trial, wanted)
        tried.extend(found)
        best = fastest(found, wanted)
        kept.offer(searcher, best or most_accurate(found), reaching=best is not None)
        if best is not None and tuning.thorough:
            tuning.told(best)
        return best

    if tuning.thorough:
        begin = start(settings, rows, tuning)
        ladders = _ladders(begin, settings, rows)
        climb(
            begin,
            ladders,
            measured,
            fit=lambda other: for_rows(other, rows),
            most=tuning.builds,
        )
    else:
        measured(settings)
    assert kept.best is not None
    best = kept.best
    if not best.reaches(wanted):
        said = missed(tried, wanted, trial)
        if tuning.thorough:
            raise UserError(said)
        _log.warning("kmm_jax: %s; the index is searched with the settings nearest to that", said)
    # With defaults as they were trained: what is searched is said with each search.
    searcher = scann_engine.load(folder, best.settings, rows, unit_ND)
    return Learnt(searcher=searcher, settings=best.settings, tried=tuple(tried))


class _Kept:
    """Of what was learnt, the best is on disk, and none in memory beside what is being learnt."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.best: Tried | None = None
        self._folder, self._file = folder, file
        self._rank = (True, math.inf)

    def offer(self, searcher: ScannSearcher, tried: Tried, *, reaching: bool) -> None:
        rank = (not reaching, tried.seconds if reaching else -tried.recall)
        if rank < self._rank:
            self._rank, self.best = rank, tried
            shutil.rmtree(self._folder, ignore_errors=True)
            searcher.save(self._folder, self._file)


def missed(tried: Sequence[Tried], wanted: float, trial: Trial) -> str:
    """That none of what was tried reaches ``wanted``, and what to do."""
    best = most_accurate(tried)
    kept = best.settings.dtype
    return (
        f"recall@10 of {wanted} was wanted; the most that was reached is {best.recall:.4f} +- "
        f"{best.error:.4f} on {len(trial):,} queries, of vectors kept as {kept}: ask for less, "
        + ("or keep float32" if kept != "float32" else "or try it on more queries")
    )


def searches(
    searcher: ScannSearcher,
    chosen: IndexSettings,
    given: IndexSettings,
    trial: Trial,
    wanted: float,
) -> list[Tried]:
    """Ways to search what was learnt that reach ``wanted``, measured; or else come near it.

    Args:
        chosen: what it was learnt with.
        given: leaves to search and numbers scored again that are said here are not varied.
        trial: queries to measure with; the first of them are timed.
    """
    assert chosen.reorder is not None
    fixed = given.leaves_to_search if chosen.layout == "tree" else None
    varied = chosen.layout == "tree" and fixed is None
    leaves = (chosen.leaves or 1) if varied else 1
    some_of = (given.reorder,) if given.reorder else REORDERS
    reorders = sorted({min(each, searcher.rows) for each in some_of})
    recalls: dict[tuple[int, int], tuple[float, float]] = {}

    def with_these(pair: tuple[int, int]) -> ScannSearcher:
        some = pair[0] if varied else fixed
        return searcher.searching(
            dataclasses.replace(chosen, leaves_to_search=some, reorder=pair[1])
        )

    def recall(pair: tuple[int, int]) -> tuple[float, float]:
        if pair not in recalls:
            recalls[pair] = trial.recall(with_these(pair).search)
        return recalls[pair]

    def reaching(least: float) -> list[tuple[int, int]]:
        def reaches(some: int, reorder: int) -> bool:
            mean, error = recall((some, reorder))
            return mean - error >= least

        return pairs(reaches, leaves, reorders)

    found = reaching(wanted)
    if not found:
        mean, error = recall((leaves, reorders[-1]))
        found = reaching(mean - error - _NEARLY) or [(leaves, reorders[-1])]
    timed = trial[:_TIMED].seconds([with_these(pair).search for pair in found])
    return [
        Tried(
            settings=with_these(pair).settings,
            recall=recall(pair)[0],
            error=recall(pair)[1],
            seconds=seconds,
        )
        for pair, seconds in zip(found, timed, strict=True)
    ]


def _ladders(begin: IndexSettings, given: IndexSettings, rows: int) -> dict[str, tuple[Any, ...]]:
    """What is varied: all that was not given."""
    found: dict[str, tuple[Any, ...]] = {}
    if given.layout == "auto" and rows < HASHED_BELOW:
        found["layout"] = ("hashed", "tree")
    if begin.leaves is not None and given.leaves is None:
        steps = {max(1, min(rows, round(begin.leaves * factor))) for factor in _LEAVES}
        found["leaves"] = tuple(sorted(steps))
    for name, ladder in _LADDERS.items():
        value = getattr(begin, name)
        found[name] = ladder if value in ladder else (value,)
    return found
