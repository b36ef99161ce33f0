"""``kmm corpus purge``: pictures out of shards, embeddings and indexes, with a receipt."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

_SHOWN = 5


def add(commands: Any) -> None:
    """Add ``kmm corpus purge``."""
    purge = commands.add_parser(
        "purge",
        help="remove pictures from what was made of them, by their hashes",
        description="Remove pictures from shards, embeddings, indexes and documents. A corpus "
        "notes their hashes in purged.txt and builds without them from now on; documents stay "
        "without them and take them up no more. Every file is the old or the new one, whatever is "
        "killed; the same command again completes it. Stop what writes to the targets first. Exit "
        "code 1: none of the hashes was found anywhere.",
    )
    purge.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="a corpus's folder, tars (a folder, a glob), embeddings, an index or documents",
    )
    purge.add_argument(
        "--hashes",
        type=Path,
        required=True,
        metavar="FILE",
        help="an image_hash a line (# begins a comment), or .csv or .parquet with that column; "
        "HASH.jpg and capitals will do",
    )
    purge.add_argument(
        "--near",
        action="store_true",
        help="also pictures that a corpus among the targets found to be near duplicates of them",
    )
    purge.add_argument(
        "--whole-documents",
        action="store_true",
        help="of documents: take out those with such a picture altogether, not the picture alone",
    )
    purge.add_argument("--dry-run", action="store_true", help="look only, change nothing")
    purge.add_argument(
        "--receipts",
        type=Path,
        metavar="FOLDER",
        help="for the receipt (default: purge-receipts beside FILE)",
    )
    purge.set_defaults(run=_purge)


def _purge(arguments: argparse.Namespace) -> int:
    from kmm_jax.corpus.purge.run import purge
    from kmm_jax.search.document_purge import documents_in

    done = purge(
        arguments.hashes,
        arguments.targets,
        receipts=arguments.receipts,
        near=arguments.near,
        dry_run=arguments.dry_run,
        command=shlex.join(["kmm", *sys.argv[1:]]),
        others=lambda path: documents_in(path, whole=arguments.whole_documents),
    )
    receipt = done.receipt
    verb, was = ("would remove", "would be") if arguments.dry_run else ("removed", "was")
    for target in receipt["targets"]:
        files = len(target["files"])
        print(
            f"{target['target']} ({target['kind']}): {verb} {target['removed']:,} of "
            f"{target['rows_before']:,} rows, in {files:,} of {target['files_in_all']:,} files"
        )
        if target.get("page") and receipt["hashes"]["count"]:
            print(
                f"{target['page']} {was} removed, as it may show them; kmm corpus report "
                f"{shlex.quote(str(Path(target['page']).parent))} makes it again"
            )
    _warn(receipt)
    print(f"receipt: {done.path}" if done.path else "nothing was changed (--dry-run)")
    return 1 if _found_none(receipt) else 0


def _found_none(receipt: dict[str, Any]) -> bool:
    """Whether there were hashes, and not one of them was found; then the list is likely wrong."""
    count = receipt["hashes"]["count"]
    again = any(target["completes_a_stopped_purge"] for target in receipt["targets"])
    return 0 < count == len(receipt["nowhere"]) and not again


def _warn(receipt: dict[str, Any]) -> None:
    hashes = receipt["hashes"]
    if not hashes["count"]:
        print(f"warning: {hashes['file']} names no hash, so nothing is removed", file=sys.stderr)
    if nowhere := receipt["nowhere"]:
        more = f" and {len(nowhere) - _SHOWN:,} more" if len(nowhere) > _SHOWN else ""
        print(
            f"warning: {len(nowhere):,} of {hashes['count']:,} hashes were found nowhere: "
            f"{', '.join(nowhere[:_SHOWN])}{more}",
            file=sys.stderr,
        )
