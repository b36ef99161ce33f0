"""``kmm label``: pages on which people score what models chose."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from kmm_jax.cli.arguments import pictures_below
from kmm_jax.errors import UserError

_PORT = 8764


def add(commands: Any) -> None:
    """Add ``kmm label``."""
    label = commands.add_parser("label", help="let people score what models chose")
    actions = label.add_subparsers(dest="label_command", required=True, metavar="COMMAND")
    thumbnail = actions.add_parser(
        "thumbnail",
        help="score thumbnails from 1 to 5 (slide 5.2) on a page",
        description="Serves a page on this machine. Pictures of all models come mixed, in an order "
        "of each rater's own, and without the names of models; one that several chose comes once. "
        "Each score is on the disk before the next picture comes; the same command goes on.",
    )
    thumbnail.add_argument(
        "labels",
        type=Path,
        metavar="LABELS.jsonl",
        help="picks and labels; made if it is not there",
    )
    thumbnail.add_argument(
        "--picks",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.jsonl",
        help="what a model chose (kmm documents thumbnail --picks); repeat it for each model",
    )
    thumbnail.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="where the pictures' paths begin"
    )
    thumbnail.add_argument(
        "--port", type=int, default=_PORT, help="default: %(default)s; 0 takes a free one"
    )
    thumbnail.set_defaults(run=_thumbnail)


def _thumbnail(arguments: argparse.Namespace) -> int:
    from kmm_jax.evaluation.thumbnail_log import read_log
    from kmm_jax.files import locked
    from kmm_jax.search.labelling.server import LabellingServer
    from kmm_jax.search.labelling.session import Session

    labels: Path = arguments.labels
    if not arguments.images.is_dir():
        raise UserError(f"--images {arguments.images} is no folder")
    if labels.is_dir():
        raise UserError(f"{labels} is a folder; name a file, such as {labels / 'labels.jsonl'}")
    picks = [pick for path in arguments.picks for pick in read_log(path).picks]
    # Ends in order also where it was started in the background, where shells take Ctrl-C away.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    lock = labels.with_name(f".{labels.name}.lock")
    with locked(lock, f"{labels.name} is being labelled"), Session(labels, picks) as session:
        with LabellingServer(session, pictures_below(arguments.images), port=arguments.port) as at:
            print(f"{len(session.tasks):,} pictures to score: {at.url}  (Ctrl-C ends)", flush=True)
            try:
                at.serve_forever()
            except KeyboardInterrupt:
                print(file=sys.stderr)
        for rater, progress in session.raters().items():
            print(f"{rater}: {progress.done:,} of {progress.total:,} scored")
        if session.lost:
            print(f"{session.lost:,} pictures could not be had and were left out", file=sys.stderr)
    return 0
