"""``kmm documents thumbnail``: the images of documents that stand for them, or none."""

from __future__ import annotations

import argparse
import collections
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.cli.arguments import open_picture, pictures_below
from kmm_jax.errors import DataError, UserError

if TYPE_CHECKING:
    from kmm_jax.evaluation.thumbnail_log import Pair, Pick
    from kmm_jax.retrieval.sheet import Hit
    from kmm_jax.search.document_search import DocumentSearch, Query
    from kmm_jax.search.documents import Document
    from kmm_jax.search.thumbnail import Known, Seen, Thumbnailer, Thumbnails
    from kmm_jax.search.thumbnail_ranking import ThumbnailConfig

_SHEETS = (".png", ".html")
_EXCERPT = 300
_KOREAN = {"unsafe": "위험", "below the floor": "유사도 미달", "not indexed": "색인에 없음"}


def add(actions: Any) -> argparse.ArgumentParser:
    """Add ``kmm documents thumbnail``."""
    command: argparse.ArgumentParser = actions.add_parser(
        "thumbnail",
        help="choose the images that stand for documents, or none",
        description="Ranks the images of documents for a query (slide 5.2): similarity above a "
        "floor, safety, quality, and images unlike those chosen before. Of the documents named, or "
        "else of those that a search finds. With --pairs or --queries and --picks it writes what "
        "it would show, to be labelled (kmm label thumbnail) and measured (kmm eval thumbnail).",
    )
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("text", nargs="?", default="", metavar="TEXT", help='such as "부산 여행"')
    command.add_argument("--image", type=Path, metavar="FILE", help="a query's picture")
    command.add_argument("--text-weight", type=float, default=0.5, metavar="W", help="0 to 1")
    command.add_argument("--document", action="append", metavar="ID", help="repeat it for more")
    command.add_argument("-k", type=int, default=10, metavar="K", help="documents to find")
    command.add_argument("--most", type=int, default=3, metavar="N", help="images of a document")
    add_config(command)
    command.add_argument("--images", type=Path, metavar="DIR", help="where the images' paths begin")
    command.add_argument(
        "--sheet", type=Path, metavar="OUT.png|OUT.html", help="draw what is shown"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    many = command.add_argument_group("many queries, to be labelled")
    many.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE.jsonl",
        help="query and document (and query_image) a line, such as another model's --picks",
    )
    many.add_argument("--queries", type=Path, metavar="FILE.txt", help="a query a line")
    many.add_argument("--picks", type=Path, metavar="OUT.jsonl", help="write what is chosen")
    many.add_argument("--title", metavar="NAME", help="of the model (default: the folder's name)")
    many.add_argument(
        "--as-is", action="store_true", help="choose each document's first image, to compare with"
    )
    return command


def add_config(command: Any) -> None:
    """Add what a thumbnail has to be."""
    command.add_argument("--floor", type=float, metavar="COSINE", help="show none below it")
    command.add_argument(
        "--most-unsafe", type=float, default=0.5, metavar="P", help="show none above it"
    )
    for name, default, what in (
        ("quality", 0.02, "a perfect picture gains"),
        ("safety", 0.1, "a surely unsafe picture loses"),
        ("diversity", 0.1, "a copy of a chosen picture loses"),
    ):
        command.add_argument(
            f"--{name}",
            type=float,
            default=default,
            metavar="W",
            help=f"what {what}, in cosines (default: %(default)s)",
        )
    command.add_argument(
        "--scores",
        type=Path,
        metavar="FILE.jsonl",
        help="what is known of images: image_hash with unsafe_score, watermark_score, as in shards",
    )


def config_of(arguments: argparse.Namespace) -> tuple[ThumbnailConfig, dict[str, Known]]:
    """What `add_config` added, and what is known of images."""
    from kmm_jax.search.thumbnail_ranking import ThumbnailConfig

    config = ThumbnailConfig(
        floor=arguments.floor,
        most_unsafe=arguments.most_unsafe,
        quality=arguments.quality,
        safety=arguments.safety,
        diversity=arguments.diversity,
    )
    return config, _known(arguments.scores) if arguments.scores else {}


def run(
    arguments: argparse.Namespace, opened: Callable[[argparse.Namespace], DocumentSearch]
) -> int:
    """Choose, print, draw and write."""
    from kmm_jax.evaluation.thumbnail_log import write_picks
    from kmm_jax.search.thumbnail import Thumbnailer

    _check(arguments)
    config, known = config_of(arguments)
    search = opened(arguments)
    choose = Thumbnailer(search, config, known=known)
    if arguments.picks:
        title = arguments.title or ("ASIS" if arguments.as_is else arguments.folder.resolve().name)
        picks = [
            _pick(title, pair, choose, document, query, as_is=arguments.as_is)
            for pair, document, query in _asked(arguments, search)
        ]
        write_picks(arguments.picks, picks)
        shown = sum(pick.shown for pick in picks)
        print(f"{arguments.picks}: {title} shows a picture for {shown:,} of {len(picks):,} pairs")
        return 0
    return _one(arguments, search, choose)


def _check(arguments: argparse.Namespace) -> None:
    many = arguments.pairs or arguments.queries
    if bool(many) != bool(arguments.picks):
        raise UserError("--picks takes its queries from --pairs or --queries, and they need it")
    if arguments.pairs and arguments.queries:
        raise UserError("give --pairs or --queries, not both")
    if many and (arguments.text or arguments.image or arguments.document or arguments.sheet):
        raise UserError("--picks takes many queries; leave out TEXT, --image, --document, --sheet")
    if arguments.sheet and arguments.sheet.suffix.lower() not in _SHEETS:
        raise UserError(f"--sheet {arguments.sheet} must end in {' or '.join(_SHEETS)}")
    if arguments.sheet and arguments.images is None:
        raise UserError("--sheet draws pictures: say with --images where their paths begin")
    if arguments.most < 1:
        raise UserError(f"--most must be at least 1, found {arguments.most}")
    if arguments.floor is None and not arguments.as_is and not many:
        print(
            "no floor: the best picture is shown however little it fits "
            "(kmm eval thumbnail --most-bad finds a floor)",
            file=sys.stderr,
        )


def _one(arguments: argparse.Namespace, search: DocumentSearch, choose: Thumbnailer) -> int:
    from kmm_jax.search.document_search import Query

    query = Query(
        text=arguments.text,
        image=open_picture(arguments.image) if arguments.image else None,
        text_weight=arguments.text_weight,
    )
    if arguments.document:
        documents = [_document(search, id) for id in arguments.document]
    else:
        documents = [hit.document for hit in search.search(query, arguments.k)]
    found = [
        choose.first(document, query)
        if arguments.as_is
        else choose.of(document, query, most=arguments.most)
        for document in documents
    ]
    if arguments.sheet:
        _draw(arguments, found, query)
    if arguments.json:
        rows = [_row(each) for each in found]
        print(json.dumps({"documents": rows}, ensure_ascii=False, indent=2))
        return 0
    for each in found:
        print(f"{each.document.id}  {each.document.title}")
        for rank, seen in enumerate(each.chosen, start=1):
            print(f"{rank:>5}  {seen.similarity:.3f}  {seen.image.path}  ({_why(seen)})")
        if note := _left_out(each):
            print(f"       {note}")
    return 0


def _asked(
    arguments: argparse.Namespace, search: DocumentSearch
) -> Iterator[tuple[Pair, Document, Query]]:
    """Pairs with their document and query, in order."""
    from kmm_jax.cli.progress import RowsBar
    from kmm_jax.evaluation.thumbnail_log import Pair, read_pairs
    from kmm_jax.search.document_search import Query

    picture = pictures_below(arguments.images)
    if arguments.pairs:
        pairs = read_pairs(arguments.pairs)
        with RowsBar("pairs") as bar:
            for number, pair in enumerate(pairs, start=1):
                try:
                    image = picture(pair.query_image) if pair.query_image else None
                except (DataError, OSError) as error:
                    raise DataError(f"query_image {pair.query_image}: {error}") from error
                query = Query(text=pair.query, image=image, text_weight=arguments.text_weight)
                yield pair, _document(search, pair.document), query
                bar(number, len(pairs))
        return
    queries = _lines(arguments.queries)
    with RowsBar("queries") as bar:
        for number, text in enumerate(queries, start=1):
            query = Query(text=text)
            for hit in search.search(query, arguments.k):
                yield Pair(text, hit.document.id), hit.document, query
            bar(number, len(queries))


def _pick(
    title: str, pair: Pair, choose: Thumbnailer, document: Document, query: Query, *, as_is: bool
) -> Pick:
    from kmm_jax.evaluation.thumbnail_log import Pick

    found = choose.first(document, query) if as_is else choose.of(document, query, most=1)
    # The best below the floor is labelled as well: floors are found from both sides.
    below = (each for each in found.left_out if each.reason == "below the floor")
    best = found.chosen[0] if found.chosen else next(below, None)
    return Pick(
        model=title,
        pair=pair,
        image=best.image.hash if best else "",
        path=best.image.path if best else "",
        similarity=best.similarity if best else None,
        shown=bool(found.chosen),
        title=document.title[:_EXCERPT],
        excerpt=document.body[:_EXCERPT],
    )


def _document(search: DocumentSearch, id: str) -> Document:
    found = search.store.get([id]).get(id)
    if found is None:
        raise UserError(f"{search.folder} holds no document {id!r} among its {len(search.store):,}")
    return found


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"--queries {path} is no file")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}") from error
    queries = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not queries:
        raise DataError(f"{path} holds no query")
    return queries


def _known(path: Path) -> dict[str, Known]:
    from kmm_jax.search.thumbnail import Known

    if not path.is_file():
        raise UserError(f"--scores {path} is no file")
    found = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
                hash, unsafe = str(values["image_hash"]), values.get("unsafe_score")
                marked = values.get("watermark_score")
                quality = None if marked is None else 1 - float(marked)
                found[hash] = Known(
                    unsafe=None if unsafe is None else float(unsafe), quality=quality
                )
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise DataError(
                    f"{path}, line {number} is no object with image_hash and scores: {error}"
                ) from error
            except DataError as error:
                raise DataError(f"{path}, line {number}: {error}") from error
    return found


def _why(seen: Seen) -> str:
    return " ".join(f"{name} {part:+.3f}" for name, part in seen.parts.items() if part)


def _left_out(found: Thumbnails) -> str:
    told = ", ".join(f"{count} {reason}" for reason, count in _reasons(found).items())
    if found.chosen:
        return told and f"left out: {told}"
    return f"no picture: {told}" if told else "no picture: the document has none"


def _left_out_korean(found: Thumbnails) -> str:
    told = ", ".join(f"{_KOREAN[reason]} {count}" for reason, count in _reasons(found).items())
    if found.chosen:
        return told and f"제외: {told}"
    return f"썸네일 없음: {told}" if told else "썸네일 없음: 문서에 이미지가 없음"


def _reasons(found: Thumbnails) -> dict[str, int]:
    return dict(collections.Counter(str(each.reason) for each in found.left_out))


def _row(found: Thumbnails) -> dict[str, Any]:
    def told(seen: Seen) -> dict[str, Any]:
        judged = seen.similarity == seen.similarity  # NaN is no JSON
        return {
            "image": seen.image.hash,
            "path": seen.image.path,
            "similarity": seen.similarity if judged else None,
            "unsafe": seen.unsafe if judged else None,
            "quality": seen.quality if judged else None,
        }

    return {
        "id": found.document.id,
        "title": found.document.title,
        "images": [
            {**told(each), "score": each.score, "parts": each.parts} for each in found.chosen
        ],
        "left_out": [{**told(each), "reason": each.reason} for each in found.left_out],
    }


def _draw(arguments: argparse.Namespace, found: list[Thumbnails], query: Query) -> None:
    from kmm_jax.retrieval.sheet import Hit, Search, write_sheet_html, write_sheet_png

    picture = pictures_below(arguments.images)
    title = arguments.text or f"이미지 검색: {arguments.image.name}"

    def hit(seen: Seen, caption: str) -> Hit:
        try:
            image = picture(seen.image.path)
        except (DataError, OSError):
            image = None
        return Hit(image=image, caption=caption, score=seen.similarity)

    if arguments.sheet.suffix.lower() == ".png":
        shown = [(each.chosen[0], each.document.title) for each in found if each.chosen]
        hits = [hit(seen, caption) for seen, caption in shown]
        if not hits:
            print("nothing is shown, so nothing was drawn", file=sys.stderr)
            return
        write_sheet_png(arguments.sheet, title, hits, query_image=query.image)
    else:
        searches = [
            Search(
                title=each.document.title or each.document.id,
                hits=[hit(seen, seen.image.caption or seen.image.path) for seen in each.chosen],
                query_image=query.image,
                note=_left_out_korean(each),
            )
            for each in found
        ]
        write_sheet_html(arguments.sheet, searches, title=f"썸네일: {title}")
    print(f"drawn: {arguments.sheet}", file=sys.stderr)
