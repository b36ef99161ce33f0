"""A searched index in a folder: ids, vectors and ScaNN's files; made whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import write_json
from kmm_jax.retrieval import checksums, engines, index_files
from kmm_jax.retrieval.ids import Ids
from kmm_jax.retrieval.index_build import RECALL, TUNING, found, write_index
from kmm_jax.retrieval.learning import Tuning, missed, searches, trials
from kmm_jax.retrieval.settings import Engine, IndexSettings
from kmm_jax.retrieval.store import Embeddings
from kmm_jax.retrieval.tuning import fastest
from kmm_jax.retrieval.vectors import UnitRows, unit_rows


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a search found: for each of Q queries, the best first.

    Attributes:
        ids: Q lists of k ids.
        scores: float32 (Q, k), cosine similarities.
        rows: int64 (Q, k), the places of the ids in the index.
    """

    ids: list[list[str]]
    scores: np.ndarray
    rows: np.ndarray


class Index:
    """Nearest vectors by cosine similarity; made by :meth:`build` or :meth:`load`.

    Attributes:
        folder: where it is.
        ids: the N ids, in the order of the vectors.
        metadata: notes that :meth:`build` was given.
        model_hash: of the model whose vectors these are.
    """

    def __init__(
        self,
        *,
        folder: Path,
        ids: Ids,
        vectors: np.ndarray,
        description: Mapping[str, Any],
        engine: Engine,
    ) -> None:
        self.folder = folder
        self.ids = ids
        self.metadata: dict[str, Any] = dict(description["metadata"])
        self.model_hash: str = description["model_hash"]
        self._vectors = vectors
        self._description = description
        self._settings = IndexSettings(**description["settings"])
        scann = folder / index_files.SCANN if description["scann_version"] else None
        self._searcher = engines.open_searcher(
            vectors, self._settings, engine, scann, built_as=description["engine"]
        )

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        ids: Sequence[str],
        vectors: np.ndarray,
        *,
        model_hash: str,
        settings: IndexSettings | None = None,
        metadata: Mapping[str, Any] | None = None,
        tuning: Tuning | None = None,
    ) -> Index:
        """Write an index and open it; one that was there is replaced once the new one is whole.

        Args:
            ids: N different texts.
            vectors: (N, D), an array or what can be sliced like one; brought to length 1.
            model_hash: of the model that computed them.
            settings: chosen by the number of rows where not given.
            metadata: notes to keep with it; JSON values.
            tuning: how settings for ``settings.recall`` are looked for.

        Raises:
            DataError: ids and vectors that do not match, ids that stand twice, vectors that are
                zero or not finite.
            UserError: the folder holds something else, the engine asked for does not run here, or
                a thorough tuning found nothing that reaches the wanted recall.
            ConfigError: settings that cannot work.
        """
        folder = Path(folder).resolve()
        chosen = settings or IndexSettings()
        write_index(
            folder,
            ids,
            vectors,
            model_hash=model_hash,
            settings=chosen,
            metadata=dict(metadata or {}),
            tuning=tuning,
        )
        return cls.load(folder, model_hash=model_hash, engine=chosen.engine)

    @classmethod
    def of_embeddings(
        cls,
        folder: str | os.PathLike[str],
        embeddings: Embeddings,
        *,
        settings: IndexSettings | None = None,
        tuning: Tuning | None = None,
    ) -> Index:
        """Build an index of exported embeddings; it notes where they and their model come from."""
        return cls.build(
            folder,
            embeddings.ids,
            embeddings.vectors,
            model_hash=embeddings.model_hash,
            settings=settings,
            metadata={
                "kind": embeddings.kind,
                **embeddings.metadata,
                **embeddings.origin,
                "spans": [list(span) for span in embeddings.spans],
            },
            tuning=tuning,
        )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        model_hash: str | None = None,
        engine: Engine = "auto",
    ) -> Index:
        """Open an index; the vectors are memory-mapped.

        Args:
            model_hash: of the model that the queries will come from, to be checked.
            engine: to search with another than the index was built for.

        Raises:
            DataError: no index, a half-written one, or a file in it that is missing or damaged.
            UserError: the index belongs to another model, or the engine does not run here.
        """
        folder = Path(folder)
        description = index_files.read_description(folder)
        if model_hash is not None:
            _check_model(folder, description["model_hash"], model_hash)
        for name, expected in description["files"].items():
            checksums.check(folder / name, expected)
        ids = index_files.read_ids(folder / index_files.IDS)
        vectors_ND = index_files.map_vectors(folder / index_files.VECTORS)
        shape = (description["rows"], description["dim"])
        dtype = IndexSettings(**description["settings"]).dtype
        if len(ids) != shape[0] or vectors_ND.shape != shape or vectors_ND.dtype != dtype:
            raise DataError(
                f"{folder}: {len(ids)} ids and {vectors_ND.dtype} vectors of shape "
                f"{vectors_ND.shape} do not match {index_files.INDEX}, which says {shape} and "
                f"{dtype}; build the index again"
            )
        return cls(
            folder=folder,
            ids=ids,
            vectors=vectors_ND,
            description=description,
            engine=engine,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self._vectors.shape[1])

    @property
    def built_recall(self) -> float | None:
        """Recall@10 against exact float32 search when it was built; None where it was exact."""
        return self._description.get(RECALL)

    @property
    def approximate(self) -> bool:
        """Whether a search may miss something."""
        return self._searcher.approximate

    def search(self, queries: np.ndarray, k: int = 10) -> Results:
        """The ``k`` nearest of each query; all there are where ``k`` is more.

        Args:
            queries: (Q, D), or one vector (D,).

        Raises:
            DataError: another dimension than the index's, or a vector that is zero or not finite.
            UserError: ``k`` below 1.
        """
        rows_QK, scores_QK = self.nearest(self._queries(queries), k)
        return Results(ids=self.ids.at(rows_QK), scores=scores_QK, rows=rows_QK)

    def nearest(self, queries_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`search`, of float32 queries of length 1: rows int64 (Q, k) and scores (Q, k).

        Raises:
            UserError: ``k`` below 1.
        """
        return self._searcher.search(queries_QD, self._at_most(k))

    def recall(self, queries: np.ndarray, k: int = 10) -> float:
        """The share of the true ``k`` nearest, by exact search, that :meth:`search` finds.

        Raises:
            DataError, UserError: as :meth:`search`, or no queries.
        """
        queries_QD, k = self._queries(queries), self._at_most(k)
        if not len(queries_QD):
            raise UserError("recall needs at least one query")
        found_QK, _ = self._searcher.search(queries_QD, k)
        true_QK, _ = self._searcher.exact.search(queries_QD, k)
        pairs = zip(found_QK, true_QK, strict=True)
        return float(np.mean([len(np.intersect1d(found, true)) / k for found, true in pairs]))

    def retune(self, recall: float, queries: np.ndarray | None = None) -> None:
        """Search as fast as ``recall`` lets from now on, here and wherever it is opened again.

        Leaves searched and vectors scored again are measured anew; nothing is built.

        Args:
            recall: recall@10 wanted, against exact search over the vectors as they are kept.
            queries: (Q, D), as ``learning.Tuning`` has them.

        Raises:
            ConfigError: no such recall.
            UserError: it is searched exactly, or no search reaches that; then all stays as it was.
        """
        scann = self._searcher.scann
        settings = replace(self._settings, recall=recall)
        if scann is None or not scann.approximate:
            raise UserError(
                f"{self.folder} is searched exactly ({self._searcher.described}): there is nothing "
                "to tune; kmm index tune builds one that may be"
            )
        trial, other = trials(UnitRows(self._vectors), queries)
        free = replace(settings, leaves_to_search=None, reorder=None)
        tried = searches(scann, settings, free, trial, recall)
        best = fastest(tried, recall)
        if best is None:
            raise UserError(missed(tried, recall, trial))
        searcher = scann.searching(best.settings)
        description = {
            **self._description,
            "settings": asdict(best.settings),
            **found(searcher, tried, trial, other, Tuning(queries=queries)),
        }
        description.pop("seal", None)
        write_json(self.folder / index_files.INDEX, checksums.sealed(description))
        self._description, self._settings = description, best.settings
        self._searcher = engines.Searcher(self._vectors, searcher, engines.described(best.settings))

    def check_model(self, model_hash: str) -> None:
        """Refuse queries of another model.

        Raises:
            UserError: the index was built with a model of another hash.
        """
        _check_model(self.folder, self.model_hash, model_hash)

    def vector(self, id: str) -> np.ndarray:
        """The unit vector (D,), float32, of an id.

        Raises:
            UserError: no such id.
        """
        return np.array(self._vectors[self.row(id)], np.float32)

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """The unit vectors (N, D), float32, at places of the index."""
        return np.asarray(self._vectors[rows], np.float32)

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """The vectors (N, D) at places of the index as they are kept, float32 or bfloat16."""
        return np.asarray(self._vectors[rows])

    def row(self, id: str) -> int:
        """The place of an id in the index.

        Raises:
            UserError: no such id.
        """
        row = self.find(id)
        if row is None:
            raise UserError(f"{self.folder} holds no id {id!r} among its {len(self):,}")
        return row

    def find(self, id: str) -> int | None:
        """The place of an id in the index; None where it is not there."""
        return self.ids.find(id)

    def info(self) -> dict[str, Any]:
        """What the index is and how it searches, as JSON values."""
        files = self._description["files"].values()
        return {
            "folder": str(self.folder),
            "rows": len(self),
            "dim": self.dim,
            "bytes": sum(file["bytes"] for file in files),
            "model_hash": self.model_hash,
            "engine": self._searcher.described,
            "settings": asdict(self._settings),
            RECALL: self.built_recall,
            TUNING: self._description.get(TUNING),
            "metadata": self.metadata,
        }

    def _queries(self, queries: np.ndarray) -> np.ndarray:
        given = np.asarray(queries)
        queries_QD = unit_rows(given if given.ndim > 1 else np.atleast_2d(given), "query")
        if queries_QD.shape[1] != self.dim:
            raise DataError(
                f"the queries have {queries_QD.shape[1]} dimensions, the index {self.dim}; they "
                "must come from the model that the index was built with"
            )
        return queries_QD

    def _at_most(self, k: int) -> int:
        if k < 1:
            raise UserError(f"k must be at least 1, found {k}")
        return min(k, len(self))


def _check_model(folder: Path, built_with: str, asked_with: str) -> None:
    if built_with != asked_with:
        raise UserError(
            f"{folder} was built with another model: its hash is {built_with!r}, this model's "
            f"{asked_with!r}; search with the model it was built with, or embed and build anew "
            "with this one"
        )
