"""An index on a cluster, searched like one that lies here."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.cluster.deploy import (
    NAME,
    Health,
    Version,
    current,
    deploy,
    health,
    serve_on,
)
from kmm_jax.retrieval.cluster.replicas import Refused
from kmm_jax.retrieval.collection import Found
from kmm_jax.retrieval.filters import Where
from kmm_jax.retrieval.searched import UnavailableError

_LOOK_SECONDS = 1.0
_SAID_SECONDS = 5.0
_PAUSE = 0.05


class _Open(NamedTuple):
    """A version and the way to its routers."""

    version: Version
    handle: Any


class _Follower:
    """Keeps to the current version of an index, in a thread of its own."""

    def __init__(self, serve: Any, name: str) -> None:
        self._serve, self._name = serve, name
        self._looking = threading.Lock()
        self._ended = threading.Event()
        version = current(serve, name)
        if version is None:
            raise UserError(f"no index {name!r} on the cluster; kmm index serve puts one there")
        self.now = self._opened(version)
        threading.Thread(target=self._follow, name=f"kmm-{name}", daemon=True).start()

    def look(self) -> None:
        """See whether another version is the current one; the last one known where nobody says."""
        if not self._looking.acquire(blocking=False):
            with self._looking:  # somebody is looking: what they see is as new
                return
        try:
            version = current(self._serve, self._name, seconds=_SAID_SECONDS)
            if version is not None and version != self.now.version:
                self.now = self._opened(version)
        except Exception:  # of many kinds; what is known serves until the cluster says more
            return
        finally:
            self._looking.release()

    def take(self, version: Version) -> None:
        """Go on with a version that is known to be the current one."""
        self.now = self._opened(version)

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _opened(self, version: Version) -> _Open:
        return _Open(version, self._serve.get_app_handle(version.application).ask)

    def _follow(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self.look()


class ClusterIndex:
    """Searches an index on a cluster; as ``Shards``, which it may take the place of.

    Any number of threads may search. A search goes to one version, from beginning to end; one whose
    version is gone begins anew with the current one. Not to be called from a coroutine: it blocks.
    """

    def __init__(self, follower: _Follower, address: str, pin: _Open | None = None) -> None:
        self._follower, self._address, self._pin = follower, address, pin

    @classmethod
    def connect(
        cls, address: str, name: str = NAME, *, model_hash: str | None = None
    ) -> ClusterIndex:
        """An index that `deploy` put on a cluster.

        Args:
            address: ``HOST:6379`` or ``auto``; this machine is a node of it.
            model_hash: of the model that queries will come from, to be checked.

        Raises:
            ConfigError: no cluster.
            UserError: no such index on it, or it belongs to another model.
        """
        found = cls(_Follower(serve_on(address), name), address)
        if model_hash is not None:
            found.check_model(model_hash)
        return found

    @property
    def _open(self) -> _Open:
        return self._pin or self._follower.now

    @property
    def folder(self) -> Path:
        """Where the version that is searched now is."""
        return Path(self._open.version.folder)

    @property
    def version(self) -> str:
        """Another one after each swap."""
        return str(self._open.version.number)

    @property
    def model_hash(self) -> str:
        """Of the model whose vectors these are."""
        return str(self._open.version.about["model_hash"])

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return int(self._open.version.about["dim"])

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the first shard."""
        return dict(self._open.version.about["metadata"])

    @property
    def column_types(self) -> dict[str, str]:
        """As ``Shards.column_types``."""
        return dict(self._open.version.about["columns"])

    def __len__(self) -> int:
        return int(self._open.version.about["rows"])

    def __contains__(self, id: str) -> bool:
        return bool(self._ask("columns", [id]))

    def check_model(self, model_hash: str) -> None:
        """Refuse vectors of another model.

        Raises:
            UserError: the index was made for a model of another hash.
        """
        if self.model_hash != model_hash:
            raise UserError(
                f"{self.folder} on the cluster holds vectors of the model {self.model_hash!r}, "
                f"these come from {model_hash!r}; search with the model that made it"
            )

    def pinned(self) -> ClusterIndex:
        """The same at its version of now, as long as that is on the cluster."""
        other = copy.copy(self)
        other._pin = self._open
        return other

    def refresh(self) -> bool:
        """See at once whether there is another version; whether there is."""
        before = self.version
        self._follower.look()
        return self.version != before

    def search(self, queries: np.ndarray, k: int = 10, *, where: Where | None = None) -> Found:
        """As ``Shards.search``.

        Raises:
            UnavailableError: a shard does not answer, and a part of the index is not enough.
        """
        found = self._ask("search", np.asarray(queries), k, where)
        assert isinstance(found, Found)
        return found

    def ids(self, *, where: Where | None = None) -> list[str]:
        """As ``Shards.ids``."""
        return list(self._ask("ids", where))

    def columns(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """As ``Shards.columns``."""
        return self._of("columns", ids)

    def vector(self, id: str) -> np.ndarray:
        """As ``Shards.vector``."""
        (found,) = self._of("vectors", [id])
        return np.asarray(found)

    def facet(
        self, column: str, *, where: Where | None = None, ids: Iterable[str] | None = None
    ) -> dict[Any, int]:
        """As ``Shards.facet``."""
        return dict(self._ask("facet", column, where, None if ids is None else list(ids)))

    def swap(self, folder: str | os.PathLike[str]) -> None:
        """As ``Shards.swap``, for all who search the index; returns once the old version is gone.

        Raises:
            DataError: as `deploy`; then what was searched still is.
            UserError: the new one is for queries of another model.
        """
        name = self._follower.now.version.name
        self._follower.take(deploy(folder, address=self._address, name=name))

    def health(self) -> Health:
        """How its shards are."""
        return health(address=self._address, name=self._follower.now.version.name)

    def close(self) -> None:
        """Follow it no longer; what is pinned may be searched on."""
        self._follower.close()

    def _of(self, name: str, ids: Sequence[str]) -> list[Any]:
        found = self._ask(name, list(ids))
        for each in ids:
            if each not in found:
                raise UserError(f"{self.folder} on the cluster holds no id {each!r}")
        return [found[each] for each in ids]

    def _ask(self, name: str, *given: Any) -> Any:
        """What the routers say; again, and of the version that is current then, where one ended."""
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        asked = self._open
        # A shard's answer may take as long; and a router that ended is asked no second time.
        patience = asked.version.settings.seconds
        until = time.monotonic() + 2 * patience
        while True:
            try:
                answer = asked.handle.remote(name, *given).result(timeout_s=patience + 1)
            except RayTaskError as error:
                raise DataError(f"the index failed: {error}") from error
            except (RayError, RayServeException, TimeoutError) as error:
                if time.monotonic() > until:
                    raise UnavailableError(
                        f"{asked.version.application} does not answer "
                        f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
                    ) from error
                time.sleep(_PAUSE)
                self._follower.look()
                asked = self._follower.now
                continue
            if isinstance(answer, Refused):
                raise answer.error()
            return answer
