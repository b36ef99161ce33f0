"""A process's connection to a Ray cluster, of which it has one at most."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm_jax.errors import ConfigError

# No news to its makers.
QUIET = {"DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}
_REACH_SECONDS = 10.0
_STARTED_HERE = Path("/tmp/ray/ray_current_cluster")  # where `ray start` leaves the address


def connected(address: str, environment: Mapping[str, str] | None = None) -> Any:
    """The module ``ray``, connected to a cluster, the one that it is connected to already if any.

    Args:
        address: ``ray://HOST:10001``, ``HOST:6379``, or ``auto``: the cluster that this machine is
            a node of.
        environment: variables of the processes that work for this one, beside quiet ones.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "a Ray cluster needs its extra, here and on every node: pip install 'kmm-jax[ray]'"
        ) from error
    if not ray.is_initialized():
        try:
            _reach(address)
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {**(environment or {}), **QUIET}},
            )
        except Exception as error:  # of many kinds: no route, no cluster, another version, a token
            said = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"no Ray cluster answers at {address!r} ({type(error).__name__}: {said}); start "
                "one with `ray start --head`, and `ray start --address=HOST:6379` on the others"
            ) from error
    return ray


def _reach(address: str) -> None:
    """Raise OSError where nothing listens: Ray itself would try for minutes."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")
        with contextlib.suppress(OSError):
            address = address or _STARTED_HERE.read_text("utf-8").strip()
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
