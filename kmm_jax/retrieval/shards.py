"""Collections that hold one index together, searched as one and replaced as one.

A folder of collections, such as ``kmm index bulk FOLDER/3 EMBEDDINGS --shard 3/16`` makes. Each is
searched in a thread of its own, the best of all are merged.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.collection import Collection, Found
from kmm_jax.retrieval.collection_files import BULK, is_collection, read_manifest
from kmm_jax.retrieval.filters import Where
from kmm_jax.retrieval.settings import Engine


@dataclasses.dataclass(frozen=True)
class _Version:
    """Open collections; a search keeps to one version from beginning to end."""

    folder: Path
    shards: tuple[Collection, ...]
    number: int = 0


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
    def version(self) -> str:
        """Another one after each swap."""
        version = self._version
        return f"{version.number}.{sum(shard.version for shard in version.shards)}"

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

    @property
    def column_types(self) -> dict[str, str]:
        """As ``Collection.column_types``; those of the first shard that has a column."""
        return dict(collections.ChainMap(*(shard.column_types for shard in self._version.shards)))

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

    def pinned(self) -> Shards:
        """The same as it is now, whatever takes its place later."""
        return Shards(self._version, self._engine)

    def search(self, queries: np.ndarray, k: int = 10, *, where: Where | None = None) -> Found:
        """As ``Collection.search``, over all shards."""
        shards = self._version.shards  # a new version may take its place meanwhile
        with ThreadPoolExecutor(len(shards), thread_name_prefix="kmm-shard") as pool:
            found = list(pool.map(lambda shard: shard.search(queries, k, where=where), shards))
        return merged(found, k)

    def ids(self, *, where: Where | None = None) -> list[str]:
        """As ``Collection.ids``; an id in several shards stands there once."""
        return once(shard.ids(where=where) for shard in self._version.shards)

    def columns(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """As ``Collection.columns``; of an id in several shards, the first one's.

        Raises:
            UserError: no such id.
        """
        version = self._version
        return [row for each in ids for row in _holder(version, each).columns([each])]

    def vector(self, id: str) -> np.ndarray:
        """As ``Collection.vector``; of an id in several shards, the first one's.

        Raises:
            UserError: no such id.
        """
        return _holder(self._version, id).vector(id)

    def facet(
        self, column: str, *, where: Where | None = None, ids: Iterable[str] | None = None
    ) -> dict[Any, int]:
        """As ``Collection.facet``; an id in several shards counts in each.

        Raises:
            UserError: no shard has such a column, or a filter that does not fit.
        """
        asked = None if ids is None else list(ids)
        shards = self._version.shards
        having = [shard for shard in shards if column in shard.column_types] or shards[:1]
        return added(shard.facet(column, where=where, ids=asked) for shard in having)

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
            self._version = dataclasses.replace(version, number=self._version.number + 1)


def is_sharded(folder: Path) -> bool:
    """Whether collections lie in this folder, which is none itself."""
    return folder.is_dir() and not is_collection(folder) and bool(_places_in(folder))


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
    return Found(ids=ids, scores=scores, complete=all(each.complete for each in found))


def once(found: Iterable[Iterable[str]]) -> list[str]:
    """The ids that several collections hold, in order, each once."""
    return list(dict.fromkeys(id for each in found for id in each))


def added(counts: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    """The sum of several collections' facets, most first."""
    total: collections.Counter[Any] = collections.Counter()
    for each in counts:
        total.update(each)
    return dict(total.most_common())


def _holder(version: _Version, id: str) -> Collection:
    """The first shard that holds an id."""
    shard = next((shard for shard in version.shards if id in shard), None)
    if shard is None:
        raise UserError(f"{version.folder} holds no id {id!r} in {len(version.shards)} shards")
    return shard


def shards_in(folder: Path) -> list[Path]:
    """The collections in a folder that hold one index together, by what their manifests say.

    Raises:
        DataError: there is none, one is unfinished, or they do not go together.
    """
    places = _places_in(folder)
    if not places:
        raise DataError(f"{folder} holds no collections; make them with kmm index bulk --shard")
    manifests = [read_manifest(place) for place in places]
    for place, manifest in zip(places, manifests, strict=True):
        bulk = manifest.get(BULK)
        if bulk is not None and bulk["done"] < bulk["segments"]:
            raise DataError(
                f"{place} is being built: {bulk['done']} of {bulk['segments']} segments are there; "
                "run kmm index bulk again, it goes on after them"
            )
        first = manifests[0]
        if (manifest["model_hash"], manifest["dim"]) != (first["model_hash"], first["dim"]):
            raise DataError(
                f"{place} holds vectors of the model {manifest['model_hash']!r} in "
                f"{manifest['dim']} dimensions, {places[0]} of {first['model_hash']!r} in "
                f"{first['dim']}: shards are of one model"
            )
    bulks = [bulk for manifest in manifests if (bulk := manifest.get(BULK)) is not None]
    of = {(bulk["identity"]["origin"].get("shard") or [0, 0])[1] for bulk in bulks}
    if len(of) == 1 and (expected := of.pop()) > len(places):
        raise DataError(
            f"{folder} holds {len(places)} of {expected} shards: the others are missing"
        )
    return places


def _opened(folder: Path, engine: Engine) -> _Version:
    places = shards_in(folder)
    return _Version(folder, tuple(Collection.open(place, engine=engine) for place in places))


def _places_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [place for place in folder.iterdir() if is_collection(place)]
    return sorted(found, key=lambda place: (len(place.name), place.name))
