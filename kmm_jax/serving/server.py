"""A service on a socket."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from kmm_jax.errors import UserError
from kmm_jax.serving.keys import Keys
from kmm_jax.serving.settings import Settings, check_reach, is_loopback

_GRACE = 30  # seconds that requests have to end once it is told to stop
_KEEP_ALIVE = 75
"""Seconds without a request. Longer than proxies wait (60): a request that crosses the end of its
connection on the way is lost."""
_BACKLOG = 2_048


def listening(settings: Settings, keys: Keys) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: the host can be reached from elsewhere and there are no keys, is no host of this
            machine, or the port is taken.
    """
    check_reach(settings.host, keys=bool(keys))
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        # A name may lead anywhere.
        check_reach(str(address[0]), keys=bool(keys))
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(_BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}; "
            "choose another with --host and --port"
        ) from error
    return opened


def address_of(opened: socket.socket, settings: Settings) -> str:
    """Where people find it."""
    host = settings.host if is_loopback(settings.host) else socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{opened.getsockname()[1]}/"


def server(app: Any) -> uvicorn.Server:
    """What answers on a socket: ``.run(sockets=[...])`` until it is told to stop."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=_KEEP_ALIVE,
            h11_max_incomplete_event_size=64 << 10,
        )
    )
