"""``kmm serve``: documents searched over HTTP, with a page."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError, require


def add(commands: Any) -> None:
    """Add ``kmm serve``."""
    command = commands.add_parser(
        "serve",
        help="search documents over HTTP, with a page for people",
        description="Serve a folder of documents (kmm documents add). What is added meanwhile is "
        "found a moment later. Beyond this machine it listens only with keys.",
    )
    command.add_argument("folder", type=Path, metavar="DOCUMENTS")
    command.add_argument("--model", metavar="MODEL", help="if it is not where it was")
    command.add_argument("--images", type=Path, metavar="DIR", help="where their paths begin")
    command.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    command.add_argument("--port", type=int, default=8000, help="0: any (default: %(default)s)")
    command.add_argument(
        "--keys", type=Path, metavar="FILE", help="lines of NAME KEY; or one in KMM_SERVE_KEY"
    )
    command.add_argument(
        "--rate", type=float, default=0.0, metavar="N", help="requests a second of one caller"
    )
    command.add_argument("--burst", type=int, default=20, metavar="N", help="and at once")
    command.add_argument(
        "--waiting",
        type=int,
        default=64,
        metavar="N",
        help="requests under way; one more is told to come later (default: %(default)s)",
    )
    command.add_argument(
        "--batch", type=int, default=16, metavar="N", help="queries the model takes at once"
    )
    command.add_argument("--threads", type=int, default=4, metavar="N", help="that search")
    command.add_argument(
        "--upload", type=float, default=8.0, metavar="MB", help="of an image (default: %(default)s)"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        require(module, extra="serve")
    from kmm_jax.cli.documents import model_of
    from kmm_jax.serving.app import build
    from kmm_jax.serving.keys import read_keys
    from kmm_jax.serving.server import address_of, listening, server
    from kmm_jax.serving.settings import KEY_VARIABLE, Settings
    from kmm_jax.serving.telemetry import set_up_logs

    if arguments.images is not None and not arguments.images.is_dir():
        raise UserError(f"--images {arguments.images} is no folder")
    settings = Settings(
        host=arguments.host,
        port=arguments.port,
        rate=arguments.rate,
        burst=arguments.burst,
        waiting=arguments.waiting,
        batch=arguments.batch,
        threads=arguments.threads,
        upload=round(arguments.upload * 1e6),
    )
    keys = read_keys(arguments.keys, os.environ.get(KEY_VARIABLE))
    # Before the model is loaded, which takes its time.
    opened = listening(settings, keys)
    with opened:
        path = model_of(arguments.folder, arguments.model)
        from kmm_jax.inference import load

        app = build(
            arguments.folder, load(path), settings=settings, keys=keys, pictures=arguments.images
        )
        set_up_logs()
        print(f"kmm serve: {address_of(opened, settings)}", file=sys.stderr, flush=True)
        server(app).run(sockets=[opened])
    return 0
