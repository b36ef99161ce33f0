"""``kmm documents``: documents with texts and images, searched by either or both."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.cli import documents_relevance, documents_thumbnail
from kmm_jax.cli.arguments import parse_where
from kmm_jax.cli.queries import add_query, part_of_picture, query_of, restyled, vector_of_picture
from kmm_jax.errors import UserError

if TYPE_CHECKING:
    from kmm_jax.search.document_search import DocumentSearch
    from kmm_jax.search.document_view import DocumentHit

_AT_A_TIME = 1_000


def add(commands: Any) -> None:
    """Add ``kmm documents``."""
    documents = commands.add_parser(
        "documents", help="search documents with texts and images, by text, image or both"
    )
    actions = documents.add_subparsers(dest="documents_command", required=True, metavar="COMMAND")
    put = actions.add_parser(
        "add",
        help="put documents into a folder, which is made if it is not there",
        description="JSON lines, each a document: id, title, body, images (hash, path, caption), "
        "time, source, tags. Run again, it goes on; known ids are replaced.",
    )
    put.add_argument("folder", type=Path, metavar="DIR")
    put.add_argument("file", type=Path, metavar="FILE.jsonl")
    put.add_argument("--images", type=Path, metavar="DIR", help="where their paths begin")
    remove = actions.add_parser("remove", help="take documents out")
    remove.add_argument("folder", type=Path, metavar="DIR")
    remove.add_argument("ids", nargs="+", metavar="ID")
    search = actions.add_parser("search", help="find documents, and say why")
    search.add_argument("folder", type=Path, metavar="DIR")
    add_query(search, '"부산 여행"')
    search.add_argument("--like", default="", metavar="ID", help="a document in its place")
    search.add_argument("-k", type=int, default=10, metavar="K")
    search.add_argument(
        "--where",
        action="append",
        metavar="TAG=VALUE",
        help='only such; repeat it, or JSON: \'{"price": {"lt": 50000}}\'',
    )
    search.add_argument("--fusion", choices=("rrf", "weighted", "learned"), default="rrf")
    search.add_argument(
        "--weight",
        action="append",
        metavar="MATCHER=W",
        help="of words, text or image; 0 leaves it out",
    )
    search.add_argument("--json", action="store_true", help="print JSON")
    thumbnail = documents_thumbnail.add(actions)
    evaluate, fit = documents_relevance.add(actions)
    for command, run in (
        (put, _put),
        (remove, _remove),
        (search, _search),
        (thumbnail, _thumbnail),
        (evaluate, _evaluate),
        (fit, _fit),
    ):
        command.add_argument("--model", metavar="MODEL", help="if it is not where it was")
        command.set_defaults(run=run)


def _put(arguments: argparse.Namespace) -> int:
    from kmm_jax.cli.progress import RowsBar
    from kmm_jax.search.documents import read_documents
    from kmm_jax.search.pictures import PictureFolder

    if not arguments.file.is_file():
        raise UserError(f"{arguments.file} is no file")
    documents = _open(arguments)
    # All of the file first: what is in the store and fits no column would stand in the way of all.
    pictures = PictureFolder(arguments.images)
    types = documents.tag_types(pictures)
    for each in read_documents(arguments.file):
        types.check(each)
    changed = 0
    reader = read_documents(arguments.file)
    purged: set[str] = set()
    while some := list(itertools.islice(reader, _AT_A_TIME)):
        purged |= documents.store.purged(image.hash for each in some for image in each.images)
        changed += documents.store.put(some)
    with RowsBar("documents") as bar:
        caught = documents.catch_up(pictures, tell=bar)
    if purged:
        print(f"{len(purged):,} images were purged and are taken up no more", file=sys.stderr)
    for message in caught.left_out[:20]:
        print(f"left out: {message}", file=sys.stderr)
    print(
        f"{arguments.folder}: {len(documents.store):,} documents, {changed:,} new or "
        f"changed, {len(caught.left_out):,} images left out"
        + ("; the next add looks for them again" if caught.left_out else "")
    )
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from kmm_jax.search.pictures import PictureFolder

    documents = _open(arguments)
    count = documents.delete(arguments.ids, PictureFolder(None))
    print(f"{arguments.folder}: {len(documents.store):,} documents, {count:,} fewer")
    return 0


def _search(arguments: argparse.Namespace) -> int:
    from kmm_jax.search.document_view import Query

    asked = query_of(arguments)
    query = Query(
        text=asked.text,
        image=asked.image,
        like=arguments.like,
        text_weight=arguments.text_weight,
        terms=asked.terms,
        where=parse_where(arguments.where or ()) or None,
        fusion=arguments.fusion,
        weights=_weights(arguments.weight or []),
    )
    documents = _open(arguments)
    asked = restyled(asked, arguments)
    part = part_of_picture(asked, arguments, documents.encoder)
    if part is not query.image:
        vector = vector_of_picture(asked, part, arguments, documents.encoder)
        query = dataclasses.replace(query, image=None, image_vector=vector)
    hits = documents.search(query, arguments.k)
    if arguments.json:
        rows = [_row(rank, hit) for rank, hit in enumerate(hits, start=1)]
        print(json.dumps({"hits": rows}, ensure_ascii=False, indent=2))
        return 0
    for rank, hit in enumerate(hits, start=1):
        why = " + ".join(f"{name} {part:.4f}" for name, part in hit.parts.items())
        print(f"{rank:>3}  {hit.score:.4f}  {hit.document.id}  {hit.document.title}  ({why})")
    return 0


def _thumbnail(arguments: argparse.Namespace) -> int:
    return documents_thumbnail.run(arguments, _open)


def _evaluate(arguments: argparse.Namespace) -> int:
    return documents_relevance.run_evaluate(arguments, _open_there)


def _fit(arguments: argparse.Namespace) -> int:
    return documents_relevance.run_fit(arguments, _open_there)


def _row(rank: int, hit: DocumentHit) -> dict[str, Any]:
    return {
        "rank": rank,
        "id": hit.document.id,
        "title": hit.document.title,
        "score": hit.score,
        "parts": hit.parts,
        "image": hit.image.path if hit.image else None,
    }


def _open(arguments: argparse.Namespace) -> DocumentSearch:
    from kmm_jax.inference import load
    from kmm_jax.search.document_search import DocumentSearch

    if arguments.model is None and arguments.run is _put and not arguments.folder.exists():
        raise UserError(f"{arguments.folder} is new: say with --model what makes its vectors")
    path = model_of(arguments.folder, arguments.model)
    notes = {"model_path": str(Path(path).resolve())}
    return DocumentSearch(arguments.folder, load(path), notes=notes)


def _open_there(arguments: argparse.Namespace) -> DocumentSearch:
    """Documents that are there already, even if a model is named."""
    from kmm_jax.search.document_search import check_documents

    check_documents(arguments.folder)
    return _open(arguments)


def model_of(folder: Path, named: str | None) -> str:
    """The model that is named, or that a folder of documents was made with.

    Raises:
        DataError: none is named and the folder holds no documents.
        UserError: it is no longer where it was.
    """
    if named is not None:
        return named
    from kmm_jax.search.document_search import notes_of

    path = notes_of(folder).get("model_path")
    if not path or not Path(path).exists():
        raise UserError(f"the model is no longer at {path}; say where it is with --model")
    return str(path)


def _weights(given: list[str]) -> dict[str, float]:
    found = {}
    for each in given:
        name, _, value = each.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UserError(f"--weight {each!r}: write MATCHER=W, such as image=2") from None
    return found
