"""``kmm demo``: a search page over a corpus that is made, from nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kmm_jax.errors import require


def add(commands: Any) -> None:
    """Add ``kmm demo``."""
    command = commands.add_parser(
        "demo",
        help="a search page over a demonstration corpus, in some 10 minutes; then at once",
        description="Makes documents with pictures and judged queries (of the built-in shop, and "
        "of real product photos where KMM_DATA_DIR has them), trains a small model, indexes, "
        "learns a fusion and serves. Interrupted, the same command continues.",
    )
    command.add_argument("--output", type=Path, default=Path("demo"), metavar="DIR")
    command.add_argument("--model", metavar="MODEL", help="take this one instead of training")
    command.add_argument(
        "--folder", type=Path, metavar="DIR", help="real photos (default: KMM_DATA_DIR)"
    )
    command.add_argument("--port", type=int, default=8000, help="0: any (default: %(default)s)")
    command.add_argument("--build", action="store_true", help="make everything and end")
    command.add_argument(
        "overrides", nargs="*", metavar="PATH=VALUE", help="of the training config coca/shop"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build and serve."""
    if not arguments.build:
        for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
            require(module, extra="serve")
        from kmm_jax.serving.keys import Keys
        from kmm_jax.serving.server import listening
        from kmm_jax.serving.settings import Settings

        # A port that is taken is better known before the training than after it.
        listening(Settings(port=arguments.port), Keys({})).close()
    from kmm_jax.demo.run import build_demo, serve_demo

    demo = build_demo(
        arguments.output,
        model=arguments.model,
        folder=arguments.folder,
        overrides=tuple(arguments.overrides),
    )
    if arguments.build:
        print(
            f"{demo.documents}: to be served with kmm demo, or kmm serve --images {demo.pictures}"
        )
    else:
        serve_demo(demo, port=arguments.port)
    return 0
