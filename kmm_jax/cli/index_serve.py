"""``kmm index serve``: an index in shards and replicas on a Ray cluster."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import UserError

if TYPE_CHECKING:
    from kmm_jax.retrieval.cluster.settings import ClusterSettings

_GIVEN = {
    "replicas": "replicas",
    "most_replicas": "most_replicas",
    "routers": "routers",
    "processors": "processors",
    "missing": "missing",
    "seconds": "seconds",
    "drain": "drain_seconds",
}


def add(actions: Any) -> None:
    """Add ``kmm index serve``."""
    serve = actions.add_parser(
        "serve",
        help="put an index on a Ray cluster, each shard in replicas",
        description="Serve a folder of collections (kmm index bulk --shard), or one collection, by "
        "the Ray cluster that this machine is a node of. Where an index of that name is served "
        "already, the new one takes its place once it is warm, and no search fails. Returns when "
        "it is there; the cluster goes on. All nodes must see the folder under the same name.",
    )
    serve.add_argument("index", type=Path, nargs="?", metavar="DIR")
    add_cluster(serve)
    serve.add_argument("--replicas", type=int, metavar="N", help="of each shard (default: 2)")
    serve.add_argument(
        "--most-replicas", type=int, metavar="N", help="to which a shard grows under load"
    )
    serve.add_argument(
        "--routers", type=int, metavar="N", help="replicas of what asks the shards (default: 2)"
    )
    serve.add_argument(
        "--processors", type=float, metavar="N", help="set aside for each replica (default: 1)"
    )
    serve.add_argument(
        "--missing",
        choices=("fail", "partial"),
        help="where a shard does not answer: fail (default), or what the others found, marked as "
        "not complete",
    )
    serve.add_argument(
        "--seconds", type=float, metavar="S", help="in which a shard must answer (default: 10)"
    )
    serve.add_argument(
        "--drain", type=float, metavar="S", help="that the old version stays (default: 10)"
    )
    serve.add_argument("--status", action="store_true", help="say how the index is")
    serve.add_argument("--stop", action="store_true", help="take the index off the cluster")
    serve.add_argument("--json", action="store_true", help="with --status: print JSON")
    serve.set_defaults(run=_serve)


def add_cluster(command: argparse.ArgumentParser) -> None:
    """Add what names an index on a cluster."""
    command.add_argument(
        "--ray",
        default="auto",
        metavar="HOST:PORT",
        help="the cluster; auto: the one that this machine is a node of (default: %(default)s)",
    )
    command.add_argument(
        "--name", default="index", help="of the index on the cluster (default: %(default)s)"
    )


def _serve(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval.cluster.deploy import current, deploy, serve_on, stop

    address, name = arguments.ray, arguments.name
    if arguments.status or arguments.stop:
        if arguments.index is not None or (arguments.status and arguments.stop):
            raise UserError("give a folder to serve, --status or --stop: one of them")
        if arguments.status:
            return _status(arguments)
        if not stop(address=address, name=name):
            raise UserError(f"no index {name!r} on the cluster")
        print(f"{name}: taken off the cluster")
        return 0
    if arguments.index is None:
        raise UserError("say which index to serve, or --status or --stop")
    before = current(serve_on(address), name)
    version = deploy(
        arguments.index,
        address=address,
        name=name,
        settings=_settings(arguments, before.settings if before else None),
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(
        f"{arguments.index}: {version.about['rows']:,} vectors in {version.shards:,} shards, "
        f"searched as {name}; kmm search {name} --ray {address} TEXT"
    )
    return 0


def _settings(arguments: argparse.Namespace, before: ClusterSettings | None) -> ClusterSettings:
    """Those of the version before, but for what is given."""
    from kmm_jax.retrieval.cluster.settings import ClusterSettings

    found = {field: getattr(arguments, name) for name, field in _GIVEN.items()}
    given = {field: value for field, value in found.items() if value is not None}
    return dataclasses.replace(before or ClusterSettings(), **given)


def _status(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval.cluster.deploy import health

    found = health(address=arguments.ray, name=arguments.name)
    version = found.version
    if arguments.json:
        values = {
            **version.plain(),
            "complete": found.complete,
            "whole": found.whole,
            "parts": [dataclasses.asdict(part) for part in found.parts],
        }
        print(json.dumps(values, ensure_ascii=False, indent=2))
    else:
        print(
            f"{version.name}, version {version.number}: {version.folder}, "
            f"{version.about['rows']:,} vectors"
        )
        for part in found.parts:
            more = f"  {part.message}" if part.message else ""
            print(f"{part.name:<12}{part.running} of {part.wanted} replicas{more}")
    return 0 if found.complete else 1
