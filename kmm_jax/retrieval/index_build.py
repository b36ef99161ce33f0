"""Writes an index: vectors, ids, what ScaNN learnt, and how well it finds what exact search finds.

Letters: Q queries, N rows, D dimensions, K best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm_jax.files import atomic_directory, write_json
from kmm_jax.retrieval import checksums, engines, index_files
from kmm_jax.retrieval.settings import IndexSettings, for_rows
from kmm_jax.retrieval.vectors import UnitRows

if TYPE_CHECKING:
    from kmm_jax.retrieval.scann_engine import ScannSearcher

RECALL = "recall@10"
_K, _QUERIES = 10, 200
_BLOCK_ROWS = 8_192  # compared at once: what memory a build needs beside its own


def write_index(
    folder: Path,
    ids: Sequence[str],
    vectors: Any,
    *,
    model_hash: str,
    settings: IndexSettings,
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """Write an index, whole or not at all, without opening it; returns what it says of itself.

    Args:
        ids: N different texts.
        vectors: (N, D), an array or what can be sliced like one; read twice where recall is
            measured, block by block.

    Raises:
        DataError, UserError, ConfigError: as ``Index.build``.
    """
    index_files.refuse_something_else(folder)
    ids = index_files.checked_ids(ids, len(vectors))
    chosen = for_rows(settings, len(ids))
    engine, reason = engines.choose(chosen.engine)
    index_files.remove_leftovers(folder)
    with atomic_directory(folder) as building:
        unit_ND = index_files.write_vectors(building / index_files.VECTORS, vectors, chosen.dtype)
        index_files.write_ids(building / index_files.IDS, ids)
        learnt = None
        if engine == "scann" and chosen.layout != "brute_force":
            from kmm_jax.retrieval import scann_engine

            learnt = scann_engine.train(unit_ND, chosen)
            learnt.save(building / index_files.SCANN, building / index_files.VECTORS)
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
        }
        if learnt is not None or chosen.dtype != "float32":
            description[RECALL] = round(_recall(learnt, unit_ND, UnitRows(vectors)), 4)
        write_json(building / index_files.INDEX, checksums.sealed(description))
    return description


def _recall(learnt: ScannSearcher | None, unit_ND: np.ndarray, given: UnitRows) -> float:
    """Recall@10 against exact search over the float32 vectors that were given.

    The queries are 200 of them, each without itself among the found.
    """
    from kmm_jax.retrieval.exact import ExactSearcher

    rng = np.random.default_rng(0)
    rows_Q = np.sort(rng.choice(len(given), min(_QUERIES, len(given)), replace=False))
    queries_QD = np.concatenate([given[row : row + 1] for row in rows_Q.tolist()])
    k = min(_K, len(given) - 1)
    if k < 1:
        return 1.0
    searcher = learnt or ExactSearcher(unit_ND, block_rows=_BLOCK_ROWS, kept_bytes=0)
    found_QK, _ = searcher.search(queries_QD, k + 1)
    exact = ExactSearcher(given, block_rows=_BLOCK_ROWS, kept_bytes=0)
    true_QK, _ = exact.search(queries_QD, k + 1)
    shares = [
        len(np.intersect1d(found[found != row][:k], true[true != row][:k])) / k
        for row, found, true in zip(rows_Q, found_QK, true_QK, strict=True)
    ]
    return float(np.mean(shares))
