"""Puts a version of an index on a cluster, in the place of another one if there is one.

The new version's replicas open their collections and search once before they count as there. Then
the name leads to it; the old one stays until callers have seen that and its searches have ended.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.retrieval.cluster.connection import connected
from kmm_jax.retrieval.cluster.replicas import Current, Refused, Router, Shard
from kmm_jax.retrieval.cluster.settings import ClusterSettings
from kmm_jax.retrieval.collection_files import is_collection, read_manifest, refuse_unfinished
from kmm_jax.retrieval.shards import shards_in

NAME = "index"
_NAMES = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,62}")  # no '-', which stands before the number
_POLL_SECONDS = 0.2
_ASK_SECONDS = 60.0
_TRIES = 20
# Vectors are searched on processors; a library that takes all of an accelerator must not see one.
_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TOKENIZERS_PARALLELISM": "false"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """A version of an index on a cluster.

    Attributes:
        name: of the index.
        number: one more than that of the version before.
        folder: of its collections.
        shards: how many.
        about: what it holds: ``rows``, ``dim``, ``model_hash``, ``metadata``, ``columns``.
        settings: that it is served with.
    """

    name: str
    number: int
    folder: str
    shards: int
    about: dict[str, Any]
    settings: ClusterSettings

    @property
    def application(self) -> str:
        """What Serve knows it by."""
        return f"{self.name}-{self.number:06d}"

    def plain(self) -> dict[str, Any]:
        """As JSON values, for `version_of`."""
        return dataclasses.asdict(self)


def version_of(plain: dict[str, Any]) -> Version:
    """Of what :meth:`Version.plain` gave."""
    return Version(**{**plain, "settings": ClusterSettings(**plain["settings"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartHealth:
    """How a shard, or what asks the shards, is.

    Attributes:
        name: ``shard-3`` or ``router``.
        running: replicas that answer.
        wanted: that there should be, at least.
        message: the cluster's own words.
    """

    name: str
    running: int
    wanted: int
    message: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Health:
    """How an index on a cluster is.

    Attributes:
        complete: whether every part has a replica that answers.
        whole: whether every part has all that it should have.
    """

    version: Version
    parts: tuple[PartHealth, ...]

    @property
    def complete(self) -> bool:
        """Whether all may be found."""
        return all(part.running for part in self.parts)

    @property
    def whole(self) -> bool:
        """Whether no replica is missing."""
        return all(part.running >= part.wanted for part in self.parts)


def serve_on(address: str) -> Any:
    """The module ``ray.serve``, connected.

    Raises:
        ConfigError: Ray Serve is not installed, there is no cluster, or the address leads to a
            proxy of it, which cannot be searched through.
    """
    if address.startswith("ray://"):
        raise ConfigError(
            f"{address}: indexes are searched from a node of the cluster (`ray start "
            "--address=HOST:6379` makes this machine one); give HOST:6379 or auto"
        )
    connected(address)
    try:
        from ray import serve
    except ImportError as error:
        raise ConfigError(
            f"Ray Serve is missing ({error}); here and on every node: pip install 'kmm-jax[ray]'"
        ) from error
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # Callers have handles; nobody needs its HTTP.
    serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
    return serve


def check_name(name: str) -> str:
    """Refuse what no index on a cluster can be called.

    Raises:
        UserError: other characters than letters, digits, ``_`` and ``.``, or too many.
    """
    if not _NAMES.fullmatch(name):
        raise UserError(f"an index is called by letters, digits, _ and ., found {name!r}")
    return name


def current(serve: Any, name: str, *, seconds: float = _ASK_SECONDS) -> Version | None:
    """The current version of an index; None where there is none of that name.

    Args:
        seconds: in which the cluster must say so.

    Raises:
        Exception: of many kinds, where the cluster does not answer.
    """
    if check_name(name) not in serve.status().applications:
        return None
    said = serve.get_app_handle(name).said.remote().result(timeout_s=seconds)
    return version_of(said) if said else None


def deploy(
    folder: str | os.PathLike[str],
    *,
    address: str,
    name: str = NAME,
    settings: ClusterSettings | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Version:
    """Serve a folder of collections, or one collection, under a name.

    Where another version is served under that name, this one takes its place and no search fails:
    it is warm before the name leads to it, and the old one goes ``drain_seconds`` later. Both are
    on the cluster for that while. All nodes must see the folder under the same name.

    Args:
        address: of the Ray cluster, as `connection.connected` takes it.
        settings: by default those of the version before.
        tell: called with a line on each step.

    Raises:
        DataError: no whole index in the folder, or a node that cannot open its part; what was
            served still is.
        UserError: the version before is of another model, or another one is being put there; or
            the index is still being built.
        ConfigError: no cluster, or it has too little room.
    """
    check_name(name)
    place = Path(folder).resolve()
    places = [place] if is_collection(place) else shards_in(place)
    manifest = read_manifest(places[0])
    for each in places:
        refuse_unfinished(each, read_manifest(each))
    serve = serve_on(address)
    before = current(serve, name)
    if before is not None and before.about["model_hash"] != manifest["model_hash"]:
        raise UserError(
            f"{place} holds vectors of the model {manifest['model_hash']!r}, {name} on the cluster "
            f"those of {before.about['model_hash']!r}; serve it under another --name"
        )
    settings = settings or (before.settings if before else ClusterSettings())
    others = _versions(serve, name)
    for other, said in others.items():
        if said.status == "DEPLOYING" and (before is None or other != before.application):
            raise UserError(f"{other} is being put on the cluster; wait until that has ended")
    number = max([0, *(int(other.rpartition("-")[2]) for other in others)]) + 1
    version = Version(
        name=name,
        number=number,
        folder=str(place),
        shards=len(places),
        about={"model_hash": manifest["model_hash"]},
        settings=settings,
    )
    tell(f"{version.application}: {len(places):,} shards, {settings.replicas:,} replicas of each")
    try:
        about = _bring_up(serve, version, places)
    except BaseException:
        serve.delete(version.application, _blocking=False)
        raise
    version = dataclasses.replace(version, about=about)
    pointer = _built(lambda: serve.deployment(Current).options(**_small(version)).bind())
    serve.run(pointer, name=name, route_prefix=None)
    tell(f"{version.application}: {about['rows']:,} vectors are searched from now on")
    gone = [other for other in others if other in serve.status().applications]
    if gone:
        time.sleep(settings.drain_seconds)
        for other in gone:
            serve.delete(other)
        tell(f"{', '.join(gone)}: taken down")
    return version


def stop(*, address: str, name: str = NAME) -> bool:
    """Take an index off the cluster; says whether it was there."""
    check_name(name)
    serve = serve_on(address)
    there = (name, *_versions(serve, name))
    known = serve.status().applications
    for each in there:
        if each in known:
            serve.delete(each)
    return name in known


def health(*, address: str, name: str = NAME) -> Health:
    """How an index is.

    Raises:
        UserError: there is none of that name.
    """
    serve = serve_on(address)
    version = current(serve, name)
    if version is None:
        raise UserError(f"no index {name!r} on the cluster; kmm index serve puts one there")
    application = serve.status().applications.get(version.application)
    parts = []
    for part in ("router", *(_shard(number) for number in range(version.shards))):
        said = application and application.deployments.get(part)
        states = {str(getattr(k, "value", k)): count for k, count in said.replica_states.items()}
        wanted = version.settings.routers if part == "router" else version.settings.replicas
        parts.append(
            PartHealth(
                name=part, running=states.get("RUNNING", 0), wanted=wanted, message=said.message
            )
            if said
            else PartHealth(name=part, running=0, wanted=wanted, message="not there")
        )
    return Health(version=version, parts=tuple(parts))


def _shard(number: int) -> str:
    return f"shard-{number}"


def _small(version: Version) -> dict[str, Any]:
    return {
        "name": "current",
        # One: of two, one would still tell of the old version when the other tells of the new.
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": 0, "runtime_env": {"env_vars": _ENVIRONMENT}},
        "user_config": version.plain(),
    }


def _bring_up(serve: Any, version: Version, places: list[Path]) -> dict[str, Any]:
    """Start a version and wait until all of it answers; what it holds.

    Raises:
        DataError: a replica cannot open its part.
        ConfigError: it is not there in time.
    """
    settings = version.settings
    target = serve.RunTarget(
        _built(lambda: _application(serve, version, places)),
        name=version.application,
        route_prefix=None,
    )
    serve.run_many([target], wait_for_applications_running=False)
    until = time.monotonic() + settings.warm_seconds
    while True:
        said = serve.status().applications.get(version.application)
        status = str(getattr(said and said.status, "value", said and said.status))
        if status == "RUNNING":
            break
        told = "; ".join(
            f"{name}: {part.message}" for name, part in said.deployments.items() if part.message
        ) if said else ""  # fmt: skip
        if status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise DataError(f"{version.folder} cannot be served: {_short(told or said.message)}")
        if time.monotonic() > until:
            raise ConfigError(
                f"{version.application} is not there after {settings.warm_seconds:,.0f} s: it "
                f"needs {_needed(version):g} processors beside the old version's ({_short(told)})"
            )
        time.sleep(_POLL_SECONDS)
    handle = serve.get_app_handle(version.application)
    about = handle.ask.remote("about").result(timeout_s=settings.seconds + _ASK_SECONDS)
    if isinstance(about, Refused):
        raise about.error()
    return dict(about)


def _application(serve: Any, version: Version, places: list[Path]) -> Any:
    """Routers over shards, as Serve takes them."""
    settings = version.settings
    options = {
        "ray_actor_options": {
            "num_cpus": settings.processors,
            "runtime_env": {"env_vars": _ENVIRONMENT},
        },
        # More than one of a batch may be under way, and what waits belongs to no replica yet.
        "max_ongoing_requests": 2 * settings.threads,
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": settings.seconds + 5,
        "max_constructor_retry_count": 3,
    }
    shards = [
        serve.deployment(Shard)
        .options(name=_shard(number), **options, **settings.scaling)
        .bind(str(place), version.about["model_hash"], settings.threads, settings.engine)
        for number, place in enumerate(places)
    ]
    # A router only waits: it takes many more than it works on.
    asked = {
        **options,
        "num_replicas": settings.routers,
        "max_ongoing_requests": 8 * settings.batch,
    }
    return serve.deployment(Router).options(name="router", **asked).bind(settings, *shards)


def _built(build: Callable[[], Any]) -> Any:
    """What Serve makes of a description; it stumbles where its own threads make one, too."""
    for _ in range(_TRIES):
        try:
            return build()
        except ValueError as error:
            if "pickle by value" not in str(error):
                raise
            time.sleep(_POLL_SECONDS)
    return build()


def _needed(version: Version) -> float:
    settings = version.settings
    return settings.processors * (version.shards * settings.replicas + settings.routers)


def _versions(serve: Any, name: str) -> dict[str, Any]:
    """The applications that are versions of an index, by their names."""
    versions = re.compile(re.escape(name) + r"-\d{6,}")
    return {
        each: said for each, said in serve.status().applications.items() if versions.fullmatch(each)
    }


def _short(text: str) -> str:
    """The end of what the cluster says, where the cause stands."""
    return " ".join(text.split())[-600:]
