"""Collections that hold one index together, searched as one and replaced as one.

A folder of collections, such as ``kmm index bulk FOLDER/3 EMBEDDINGS --shard 3/16`` makes. Each is
searched in a thread of its own, the best of all are merged.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.collection import Collection, Found
from kmm_jax.retrieval.collection_files import is_collection
from kmm_jax.retrieval.filters import Where
from kmm_jax.retrieval.settings import Engine


@dataclasses.dataclass(frozen=True)
class _Version:
    """Open collections; a search keeps to one version from beginning to end."""

    folder: Path
    shards: tuple[Collection, ...]


class Shards:
    """Searches several collections as one.

    An id is found once, with its best score, should it stand in several. Any number of threads may
    search, while another puts a new version in the place of this one.
    """

    def __init__(self, version: _Version, engine: Engine) -> None:
        self._version = version
        self._engine = engine
        self._swapping = threading.Lock()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        model_hash: str | None = None,
        engine: Engine = "auto",
    ) -> Shards:
        """Open all collections in a folder.

        Raises:
            DataError: there is none, one is damaged or unfinished, or they do not go together.
            UserError: they belong to another model, or the engine does not run here.
        """
        found = cls(_opened(Path(folder).resolve(), engine), engine)
        if model_hash is not None:
            found.check_model(model_hash)
        return found

    @property
    def folder(self) -> Path:
        """Where the version that is searched now is."""
        return self._version.folder

    @property
    def model_hash(self) -> str:
        """Of the model whose vectors these are."""
        return self._version.shards[0].model_hash

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return self._version.shards[0].dim

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the first shard."""
        return self._version.shards[0].metadata

    def __len__(self) -> int:
        return sum(map(len, self._version.shards))

    def __contains__(self, id: str) -> bool:
        return any(id in shard for shard in self._version.shards)

    def check_model(self, model_hash: str) -> None:
        """Refuse vectors of another model.

        Raises:
            UserError: the shards were made for a model of another hash.
        """
        for shard in self._version.shards:
            shard.check_model(model_hash)

    def search(self, queries: np.ndarray, k: int = 10, *, where: Where | None = None) -> Found:
        """As ``Collection.search``, over all shards."""
        shards = self._version.shards  # a new version may take its place meanwhile
        with ThreadPoolExecutor(len(shards), thread_name_prefix="kmm-shard") as pool:
            found = list(pool.map(lambda shard: shard.search(queries, k, where=where), shards))
        return merged(found, k)

    def columns(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """As ``Collection.columns``; of an id in several shards, the first one's.

        Raises:
            UserError: no such id.
        """
        shards = self._version.shards
        rows = []
        for each in ids:
            shard = next((shard for shard in shards if each in shard), None)
            if shard is None:
                raise UserError(f"{self.folder} holds no id {each!r} in {len(shards)} shards")
            rows += shard.columns([each])
        return rows

    def swap(self, folder: str | os.PathLike[str]) -> None:
        """Search the shards in another folder from now on.

        They are opened and checked before they take the place of these; searches under way end with
        the version they began with, and none fails. Both are in memory for that while.

        Raises:
            DataError: as `open`; then these are searched as before.
            UserError: the new ones are for queries of another model.
        """
        with self._swapping:
            version = _opened(Path(folder).resolve(), self._engine)
            for shard in version.shards:
                shard.check_model(self.model_hash)
            self._version = version


def is_sharded(folder: Path) -> bool:
    """Whether collections lie in this folder, which is none itself."""
    return folder.is_dir() and not is_collection(folder) and bool(_shards_in(folder))


def merged(found: Sequence[Found], k: int) -> Found:
    """The ``k`` best of what several searches found for the same queries, ties to the earlier."""
    ids: list[list[str]] = []
    scores: list[np.ndarray] = []
    for query in range(len(found[0].ids)):
        best: dict[str, float] = {}
        for each in found:
            for name, score in zip(each.ids[query], each.scores[query].tolist(), strict=True):
                best[name] = max(score, best.get(name, -np.inf))
        kept = sorted(best, key=lambda name: -best[name])[:k]
        ids.append(kept)
        scores.append(np.asarray([best[name] for name in kept], np.float32))
    return Found(ids=ids, scores=scores)


def _opened(folder: Path, engine: Engine) -> _Version:
    places = _shards_in(folder)
    if not places:
        raise DataError(f"{folder} holds no collections; make them with kmm index bulk --shard")
    shards = tuple(Collection.open(place, engine=engine) for place in places)
    for place, shard in zip(places, shards, strict=True):
        bulk = shard.bulk
        if bulk is not None and bulk["done"] < bulk["segments"]:
            raise DataError(
                f"{place} is being built: {bulk['done']} of {bulk['segments']} segments are there; "
                "run kmm index bulk again, it goes on after them"
            )
        if (shard.model_hash, shard.dim) != (shards[0].model_hash, shards[0].dim):
            raise DataError(
                f"{place} holds vectors of the model {shard.model_hash!r} in {shard.dim} "
                f"dimensions, {places[0]} of {shards[0].model_hash!r} in {shards[0].dim}: shards "
                "are of one model"
            )
    of = {(bulk["identity"]["origin"].get("shard") or [0, 0])[1] for bulk in _bulks(shards)}
    if len(of) == 1 and (expected := of.pop()) > len(shards):
        raise DataError(
            f"{folder} holds {len(shards)} of {expected} shards: the others are missing"
        )
    return _Version(folder, shards)


def _bulks(shards: Sequence[Collection]) -> list[dict[str, Any]]:
    return [bulk for shard in shards if (bulk := shard.bulk) is not None]


def _shards_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [place for place in folder.iterdir() if is_collection(place)]
    return sorted(found, key=lambda place: (len(place.name), place.name))
