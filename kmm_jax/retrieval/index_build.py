"""Writes an index: vectors, ids, what ScaNN learnt, and how well it finds what exact search finds.

Letters: N rows, D dimensions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm_jax.files import atomic_directory, write_json
from kmm_jax.retrieval import checksums, engines, index_files, scann_engine
from kmm_jax.retrieval.learning import Tuning, learn, learn_for_recall, start, trials
from kmm_jax.retrieval.settings import IndexSettings, for_rows
from kmm_jax.retrieval.trial import BLOCK_ROWS, Trial
from kmm_jax.retrieval.vectors import UnitRows

if TYPE_CHECKING:
    from kmm_jax.retrieval.scann_engine import ScannSearcher
    from kmm_jax.retrieval.trial import Search
    from kmm_jax.retrieval.tuning import Tried

RECALL, TUNING = "recall@10", "tuning"
_QUERIES = 200

_log = logging.getLogger("kmm_jax.retrieval")


def write_index(
    folder: Path,
    ids: Sequence[str],
    vectors: Any,
    *,
    model_hash: str,
    settings: IndexSettings,
    metadata: Mapping[str, Any],
    tuning: Tuning | None = None,
) -> dict[str, Any]:
    """Write an index, whole or not at all, without opening it; returns what it says of itself.

    Args:
        ids: N different texts.
        vectors: (N, D), an array or what can be sliced like one; read again where recall is
            measured, block by block.
        tuning: how settings for a wanted recall are looked for.

    Raises:
        DataError, UserError, ConfigError: as ``Index.build``.
    """
    index_files.refuse_something_else(folder)
    ids = index_files.checked_ids(ids, len(vectors))
    engine, reason = engines.choose(settings.engine)
    tuning = tuning or Tuning()
    chosen = for_rows(settings, len(ids))
    if engine == "scann" and settings.recall is not None:
        chosen = start(settings, len(ids), tuning)
    index_files.remove_leftovers(folder)
    with atomic_directory(folder) as building:
        file = building / index_files.VECTORS
        unit_ND = index_files.write_vectors(file, vectors, chosen.dtype)
        index_files.write_ids(building / index_files.IDS, ids)
        given = UnitRows(vectors)
        learnt, measured = None, dict[str, Any]()
        if engine == "scann" and chosen.layout != "brute_force":
            saved = building / index_files.SCANN
            if chosen.recall is None:
                learnt = learn(unit_ND, chosen, saved, file)
                measured = {RECALL: _recall(learnt.searcher.search, given)}
            else:
                trial, other = trials(given, tuning.queries)
                learnt = learn_for_recall(
                    unit_ND, settings, saved, file, trial=trial, tuning=tuning
                )
                measured = found(learnt.searcher, learnt.tried, trial, other, tuning)
            chosen = learnt.settings
        elif chosen.dtype != "float32":
            measured = {RECALL: _recall(_exact(unit_ND), given)}
            if chosen.recall is not None and measured[RECALL] < chosen.recall:
                _log.warning(
                    "kmm_jax: recall@10 of %s was wanted; bfloat16, all of it compared, reaches %s",
                    chosen.recall,
                    measured[RECALL],
                )
        names = sorted(p.relative_to(building) for p in building.rglob("*") if p.is_file())
        description: dict[str, Any] = {
            "format": index_files.FORMAT,
            "rows": len(ids),
            "dim": unit_ND.shape[1],
            "model_hash": model_hash,
            "engine": engine if engine == "scann" else f"exact: {reason}",
            "scann_version": scann_engine.version() if learnt is not None else None,
            "settings": asdict(chosen),
            "metadata": dict(metadata),
            "files": {p.as_posix(): checksums.describe(building / p) for p in names},
            **measured,
        }
        write_json(building / index_files.INDEX, checksums.sealed(description))
    return description


def _recall(search: Search, given: UnitRows) -> float:
    """Recall@10 against exact search over the float32 vectors that were given.

    The queries are 200 of them, each without itself among the found.
    """
    rng = np.random.default_rng(0)
    rows_Q = np.sort(rng.choice(len(given), min(_QUERIES, len(given)), replace=False))
    return round(Trial.of_rows(given, rows_Q).recall(search)[0], 4)


def found(
    searcher: ScannSearcher, tried: Sequence[Tried], trial: Trial, other: Trial, tuning: Tuning
) -> dict[str, Any]:
    """What an index says of settings that were found.

    Args:
        trial, other: queries that chose, and those on which recall is measured afterwards.
    """
    recall, error = other.recall(searcher.search)
    return {
        RECALL: round(recall, 4),
        TUNING: {
            "wanted": searcher.settings.recall,
            "queries": "of the index" if tuning.queries is None else "given",
            "chosen_by": len(trial),
            "measured_on": len(other),
            "error": round(error, 4),
            "tried": [each.as_json() for each in tried],
        },
    }


def _exact(unit_ND: np.ndarray) -> Search:
    from kmm_jax.retrieval.exact import ExactSearcher

    return ExactSearcher(unit_ND, block_rows=BLOCK_ROWS, kept_bytes=0).search
