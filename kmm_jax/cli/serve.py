"""``kmm serve``: documents searched over HTTP, with a page."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.cli import documents_thumbnail
from kmm_jax.errors import UserError, require

if TYPE_CHECKING:
    from kmm_jax.retrieval.searched import Searched


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
    command.add_argument(
        "--generator", type=Path, metavar="MODEL", help="make pictures from prompts with it, too"
    )
    command.add_argument(
        "--names", type=Path, metavar="DIR", help="name pictures by this database (kmm name build)"
    )
    command.add_argument(
        "--safety-concept",
        action="append",
        metavar="TEXT=COSINE",
        help="blacken generated pictures that are this near to it; repeat it",
    )
    command.add_argument(
        "--image-index",
        metavar="DIR|NAME",
        help="search images here in the place of the documents' own index: a collection or a "
        "folder of shards, or with --ray the name of an index on a cluster (kmm index serve); ids "
        "are DOCUMENT/HASH",
    )
    command.add_argument("--ray", metavar="HOST:PORT", help="the cluster of --image-index")
    documents_thumbnail.add_config(command.add_argument_group("thumbnails of documents"))
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
    thumbnails, known = documents_thumbnail.config_of(arguments)
    keys = read_keys(arguments.keys, os.environ.get(KEY_VARIABLE))
    # Before the model is loaded, which takes its time.
    opened = listening(settings, keys)
    with opened:
        path = model_of(arguments.folder, arguments.model)
        from kmm_jax.inference import load
        from kmm_jax.training.compile_cache import use_compile_cache

        use_compile_cache()
        model = load(path)
        app = build(
            arguments.folder,
            model,
            settings=settings,
            keys=keys,
            pictures=arguments.images,
            painter=_painter(arguments, model),
            thumbnails=thumbnails,
            known=known,
            images=_images(arguments),
            naming=_naming(arguments, model),
        )
        set_up_logs()
        print(f"kmm serve: {address_of(opened, settings)}", file=sys.stderr, flush=True)
        server(app).run(sockets=[opened])
    return 0


def _images(arguments: argparse.Namespace) -> Searched | None:
    """The index of images that is named."""
    named: str | None = arguments.image_index
    if named is None:
        if arguments.ray:
            raise UserError("--ray needs --image-index, the name of an index on the cluster")
        return None
    if arguments.ray:
        from kmm_jax.retrieval.cluster.index import ClusterIndex

        return ClusterIndex.connect(arguments.ray, named)
    from kmm_jax.retrieval.collection import Collection
    from kmm_jax.retrieval.shards import Shards, is_sharded

    return (Shards if is_sharded(Path(named)) else Collection).open(named)


def _naming(arguments: argparse.Namespace, model: Any) -> Any:
    """What names pictures; of its models the one that searches is loaded already."""
    if arguments.names is None:
        return None
    from kmm_jax.inference import load
    from kmm_jax.search.naming.asking import Namer
    from kmm_jax.serving.naming import Naming

    return Naming(Namer.open(arguments.names, load, known=[model]))


def _painter(arguments: argparse.Namespace, model: Any) -> Any:
    """What makes pictures; the model that searches looks at them."""
    from kmm_jax.cli.generate import parse_concepts

    concepts = parse_concepts(arguments.safety_concept)
    if arguments.generator is None:
        if concepts:
            raise UserError("--safety-concept needs --generator MODEL, whose pictures it looks at")
        return None
    from kmm_jax.generation.loading import load_pipeline
    from kmm_jax.generation.safety import ConceptFilter
    from kmm_jax.serving.painting import Painter

    if not concepts:
        print("no safety filter runs over generated pictures", file=sys.stderr)
    safety = ConceptFilter(model, concepts) if concepts else None
    return Painter(load_pipeline(arguments.generator), safety)
