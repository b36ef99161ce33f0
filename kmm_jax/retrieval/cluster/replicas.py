"""What runs on the cluster: shards that hold a collection open, and routers that ask them all.

What callers did wrong comes back as a value, `Refused`: so an exception always is the cluster's own
(a replica that ended, a node that is gone), and the same question is put to another replica.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import pickle
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.cluster.settings import ClusterSettings
from kmm_jax.retrieval.collection import Collection, Found
from kmm_jax.retrieval.filters import Where
from kmm_jax.retrieval.searched import UnavailableError
from kmm_jax.retrieval.settings import Engine
from kmm_jax.retrieval.shards import added, merged, once

_PAUSE = 0.05  # seconds before another replica is asked
_ERRORS: dict[str, type[UserError]] = {
    "data": DataError,
    "user": UserError,
    "unavailable": UnavailableError,
}


@dataclasses.dataclass(frozen=True)
class Refused:
    """Why a question has no answer."""

    kind: Literal["data", "user", "unavailable"]
    message: str

    def error(self) -> UserError:
        """As callers get it."""
        return _ERRORS[self.kind](self.message)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A search that waits for others to share a batch with."""

    queries_QD: np.ndarray
    k: int
    where: Where | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Of those that may be one search."""
        return (
            self.queries_QD.shape[1:],
            self.queries_QD.dtype.str,
            self.k,
            pickle.dumps(self.where),
        )


Operation: TypeAlias = Callable[..., Any]


def _about(shard: Collection) -> dict[str, Any]:
    return {
        "rows": len(shard),
        "dim": shard.dim,
        "model_hash": shard.model_hash,
        "metadata": shard.metadata,
        "columns": shard.column_types,
    }


def _search(shard: Collection, queries_QD: np.ndarray, k: int, where: Where | None) -> Found:
    return shard.search(queries_QD, k, where=where)


def _ids(shard: Collection, where: Where | None) -> list[str]:
    return shard.ids(where=where)


def _columns(shard: Collection, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    there = [each for each in ids if each in shard]
    return dict(zip(there, shard.columns(there), strict=True))


def _vectors(shard: Collection, ids: Sequence[str]) -> dict[str, np.ndarray]:
    return {each: shard.vector(each) for each in ids if each in shard}


def _facet(
    shard: Collection, column: str, where: Where | None, ids: Sequence[str] | None
) -> dict[Any, int] | None:
    return shard.facet(column, where=where, ids=ids) if column in shard.column_types else None


_OPERATIONS: dict[str, Operation] = {
    "about": _about,
    "search": _search,
    "ids": _ids,
    "columns": _columns,
    "vectors": _vectors,
    "facet": _facet,
}


class Shard:
    """A replica of a shard: one collection, memory-mapped, and threads that search it."""

    def __init__(self, folder: str, model_hash: str, threads: int, engine: Engine) -> None:
        self._collection = Collection.open(folder, model_hash=model_hash, engine=engine)
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, "search")
        # Of its own, so that a busy replica is not taken for a dead one.
        self._beside = concurrent.futures.ThreadPoolExecutor(1, "health")
        # Nothing is asked of a replica before it has loaded and compiled what a search needs.
        found = self._collection.search(np.ones(self._collection.dim, np.float32))
        self._any = found.ids[0][0] if found.ids[0] else None

    async def ask(self, name: str, *given: Any) -> Any:
        """What an operation says, or `Refused`."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._threads, _OPERATIONS[name], self._collection, *given
            )
        except DataError as error:
            return Refused("data", str(error))
        except UserError as error:
            return Refused("user", str(error))

    async def check_health(self) -> None:
        """Raise where the vectors can no longer be read; the cluster then starts another one."""
        if self._any is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._beside, self._collection.vector, self._any)


class Router:
    """Asks one replica of each shard of a version, and merges what they say."""

    def __init__(self, settings: ClusterSettings, *shards: Any) -> None:
        from ray import serve

        self._settings = settings
        self._shards = [shard.ask for shard in shards]

        @serve.batch(
            max_batch_size=settings.batch,
            batch_wait_timeout_s=settings.gather,
            max_concurrent_batches=settings.threads,
        )
        async def together(asked: list[_Asked]) -> list[Found | Refused]:
            return await self._together(asked)

        self._searched = together

    async def ask(self, name: str, *given: Any) -> Any:
        """What all shards say to an operation, as one; or `Refused`."""
        if name == "search":
            queries, k, where = given
            return await self._searched(_Asked(np.atleast_2d(queries), k, where))
        answers = await self._all(name, *given)
        if isinstance(answers, Refused):
            return answers
        if name == "ids":
            return once(answers)
        if name in ("columns", "vectors"):
            found: dict[str, Any] = {}
            for each in answers:
                found = {**each, **found}  # of an id in several, the first one's
            return found
        if name == "facet":
            counts = [each for each in answers if each is not None]
            return added(counts) if counts else Refused("user", f"no column {given[0]!r}")
        columns: dict[str, str] = {}
        for each in answers:
            columns = {**each["columns"], **columns}
        return {**answers[0], "rows": sum(each["rows"] for each in answers), "columns": columns}

    async def _together(self, asked: list[_Asked]) -> list[Found | Refused]:
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, each in enumerate(asked):
            groups.setdefault(each.key, []).append(number)
        answers: dict[int, Found | Refused] = {}
        found = await asyncio.gather(
            *(self._one_search([asked[number] for number in group]) for group in groups.values())
        )
        for group, results in zip(groups.values(), found, strict=True):
            answers |= zip(group, results, strict=True)
        return [answers[number] for number in range(len(asked))]

    async def _one_search(self, asked: list[_Asked]) -> list[Found | Refused]:
        """Searches of one kind, as one."""
        queries_QD = np.concatenate([each.queries_QD for each in asked])
        answers = await self._all("search", queries_QD, asked[0].k, asked[0].where)
        if isinstance(answers, Refused):
            if len(asked) == 1 or answers.kind == "unavailable":
                return [answers] * len(asked)
            # What is wrong with one must not be told to its neighbours.
            alone = await asyncio.gather(*(self._one_search([each]) for each in asked))
            return [each for (each,) in alone]
        found = merged(answers, asked[0].k)
        complete = len(answers) == len(self._shards)
        results: list[Found | Refused] = []
        start = 0
        for each in asked:
            stop = start + len(each.queries_QD)
            results.append(
                Found(ids=found.ids[start:stop], scores=found.scores[start:stop], complete=complete)
            )
            start = stop
        return results

    async def _all(self, name: str, *given: Any) -> list[Any] | Refused:
        """The shards' answers in order, without those of missing ones where that is allowed."""
        answers = await asyncio.gather(
            *(self._of(number, name, *given) for number in range(len(self._shards)))
        )
        there = [each for each in answers if not isinstance(each, Refused)]
        refused = [each for each in answers if isinstance(each, Refused)]
        for each in refused:
            may_miss = name in ("search", "facet") and self._settings.missing == "partial"
            if each.kind != "unavailable" or not may_miss or not there:
                return each
        return there

    async def _of(self, number: int, name: str, *given: Any) -> Any:
        """What one shard says; another replica is asked where one ended."""
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.seconds
        said = f"no answer in {self._settings.seconds:g} s"
        while (left := until - loop.time()) > 0:
            try:
                return await asyncio.wait_for(self._shards[number].remote(name, *given), left)
            except TimeoutError:
                break
            except RayTaskError:
                raise  # a mistake of ours: another replica would make it, too
            except (RayError, RayServeException) as error:
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            await asyncio.sleep(_PAUSE)
        return Refused("unavailable", f"shard {number} of {len(self._shards)}: {said}")


class Current:
    """Says which version of an index is the current one."""

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}

    def reconfigure(self, said: dict[str, Any]) -> None:
        """Another one is."""
        self._said = said

    async def said(self) -> dict[str, Any]:
        """What it was told last."""
        return self._said
