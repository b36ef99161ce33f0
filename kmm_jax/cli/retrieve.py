"""``kmm embed`` and ``kmm search``: from a model and a source to what is found."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.cli.arguments import absolute_source, add_export, parse_where
from kmm_jax.cli.queries import add_query, part_of_picture, query_of, restyled, vector_of_picture
from kmm_jax.data.storage import is_url
from kmm_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from kmm_jax.retrieval.index import Index
    from kmm_jax.retrieval.lookup import RowLookup
    from kmm_jax.retrieval.searched import Searched
    from kmm_jax.retrieval.sheet import Hit

_STYLES = ("prompt", "query", "shopping")
_SHEETS = (".png", ".html")
_SECONDS_BETWEEN_LINES = 10


def add(commands: Any) -> None:
    """Add ``kmm embed`` and ``kmm search``."""
    embed = commands.add_parser(
        "embed",
        help="write a source's embeddings to Parquet",
        description="Embed every row of a source. Run again, it goes on after the parts that are "
        "whole.",
    )
    embed.add_argument("model", metavar="MODEL", help="a run or an exported model; or its URL")
    embed.add_argument("source", metavar="SOURCE", help="shards, folder+tsv:... or tfds:name/split")
    embed.add_argument("--output", type=Path, required=True, metavar="DIR")
    embed.add_argument("--kind", choices=("image", "text"), default="image")
    embed.add_argument("--style", choices=_STYLES, default="query", help="of the texts")
    embed.add_argument("--batch-size", type=int, default=64, metavar="N")
    embed.add_argument("--part-rows", type=int, default=8192, metavar="N", help="rows of a file")
    embed.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the vectors on disk; bfloat16 takes half the bytes (default: %(default)s)",
    )
    add_export(embed)
    embed.set_defaults(run=_embed)

    search = commands.add_parser(
        "search", help="search an index or a collection by text, by image or by both"
    )
    search.add_argument("index", type=Path, metavar="INDEX")
    add_query(search, '"빨간 체크 셔츠"')
    search.add_argument(
        "--together",
        action="store_true",
        help="with --image and TEXT: read both in one pass, as OneR can, instead of adding vectors",
    )
    search.add_argument("--model", metavar="MODEL", help="if it is not where it was")
    search.add_argument("--source", metavar="SOURCE", help="of the pictures, if it has moved")
    search.add_argument(
        "--ray",
        metavar="HOST:PORT",
        help="INDEX is the name of an index on this Ray cluster (kmm index serve)",
    )
    search.add_argument("--style", choices=_STYLES, default="query")
    search.add_argument("-k", type=int, default=10, metavar="K", help="how many to find")
    search.add_argument(
        "--where",
        action="append",
        metavar="COLUMN=VALUE",
        help='of a collection, only such rows; repeat it. Or JSON: \'{"price": {"lt": 50000}}\'',
    )
    search.add_argument("--sheet", type=Path, metavar="OUT.png|OUT.html", help="draw what is found")
    search.add_argument("--json", action="store_true", help="print JSON")
    search.set_defaults(run=_search)


def _embed(arguments: argparse.Namespace) -> int:
    from kmm_jax.data.sources import open_source
    from kmm_jax.inference import load
    from kmm_jax.retrieval.embedding import Progress, embed_source

    url = absolute_source(arguments.source)
    source = open_source(url)
    model = load(arguments.model)
    process_index, process_count = arguments.process
    say = _progress_line()

    def progress(now: Progress) -> None:
        rate = now.done / max(now.seconds, 1e-9)
        bad = f", {now.bad:,} bad" if now.bad else ""
        say(f"{now.done:,} of {now.total:,} rows, {rate:,.0f} rows/s{bad}")

    report = embed_source(
        model,
        source,
        arguments.output,
        kind=arguments.kind,
        style=arguments.style,
        batch_size=arguments.batch_size,
        part_rows=arguments.part_rows,
        max_bad_share=arguments.max_bad_share,
        source_url=url,
        model_path=arguments.model
        if is_url(arguments.model)
        else str(Path(arguments.model).resolve()),
        dtype=arguments.dtype,
        progress=progress,
        process_index=process_index,
        process_count=process_count,
    )
    say("")
    for message in report.messages:
        print(f"left out: {message}", file=sys.stderr)
    if report.bad > len(report.messages):
        print(f"left out: {report.bad - len(report.messages):,} more", file=sys.stderr)
    already = report.rows - report.computed if process_count == 1 else 0
    print(
        f"{arguments.output}: {report.computed:,} rows read, {report.bad:,} left out"
        + (f", {already:,} embedded before" if already else "")
        + ("" if report.finished else "; waiting for the parts of other processes")
    )
    return 0


def _search(arguments: argparse.Namespace) -> int:
    from kmm_jax.inference import load
    from kmm_jax.retrieval.collection_files import is_collection
    from kmm_jax.retrieval.compose import compose
    from kmm_jax.retrieval.shards import is_sharded
    from kmm_jax.retrieval.terms import composed

    asked = query_of(arguments)
    if not asked:
        raise UserError('nothing to search for: give a text such as "빨간 체크 셔츠", or --image')
    if arguments.together and not (asked.text and arguments.image):
        raise UserError("--together needs a text and --image")
    if arguments.sheet and arguments.sheet.suffix.lower() not in _SHEETS:
        raise UserError(f"--sheet {arguments.sheet} must end in {' or '.join(_SHEETS)}")
    grows = arguments.ray or is_collection(arguments.index) or is_sharded(arguments.index)
    searched = _Collected(arguments) if grows else _Built(arguments)
    model = load(_model_path(searched.of, arguments.model))
    searched.of.check_model(model.hash)
    asked = restyled(asked, arguments)
    query_image = part_of_picture(asked, arguments, model)
    query: np.ndarray | None = None
    if arguments.together:
        assert query_image is not None
        query = model.embed_pair([query_image], [asked.text], arguments.style)[0]
    elif asked.text or query_image is not None:
        query = compose(
            model.embed_text([asked.text], arguments.style)[0] if asked.text else None,
            vector_of_picture(asked, query_image, arguments, model),
            arguments.text_weight,
        )
    if asked.terms:
        query = composed(query, asked.terms, model)
    assert query is not None
    ids, hits = searched.hits(query, arguments.k)
    scores = [hit.score for hit in hits]
    if arguments.sheet:
        _draw(arguments, hits, query_image)
    if arguments.json:
        rows = [
            {"rank": rank, "id": each, "score": score, "caption": hit.caption}
            for rank, (each, score, hit) in enumerate(zip(ids, scores, hits, strict=True), start=1)
        ]
        said: dict[str, Any] = {
            "text": asked.text or None,
            "image": str(arguments.image or "") or None,
        }
        if asked.terms:
            said["terms"] = asked.said
        print(json.dumps({"query": said, "hits": rows}, ensure_ascii=False, indent=2))
        return 0
    for rank, (each, hit) in enumerate(zip(ids, hits, strict=True), start=1):
        words = "" if hit.caption == each else f"  {hit.caption}"
        print(f"{rank:>3}  {hit.score:.3f}  {each}{words}")
    return 0


class _Built:
    """An index that was built once; rows of its source give pictures and captions."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from kmm_jax.retrieval.index import Index

        if arguments.where:
            raise UserError(
                f"--where needs columns to look at: {arguments.index} is an index that was built "
                "once; kmm index add makes a collection, with --columns"
            )
        self.of = Index.load(arguments.index)
        self._lookup = _lookup(self.of, arguments.source)

    def hits(self, query: np.ndarray, k: int) -> tuple[list[str], list[Hit]]:
        """Ids, and hits as they are shown."""
        from kmm_jax.retrieval.lookup import hits_with_rows

        found = self.of.search(query, k)
        scores = found.scores[0].tolist()
        hits = hits_with_rows(self._lookup, found.ids[0], found.rows[0].tolist(), scores)
        return found.ids[0], hits


class _Collected:
    """A collection, a folder of them, or an index on a cluster; their columns give captions."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from kmm_jax.retrieval.collection import Collection
        from kmm_jax.retrieval.shards import Shards, is_sharded

        self.of: Searched
        if arguments.ray:
            from kmm_jax.retrieval.cluster.index import ClusterIndex

            self.of = ClusterIndex.connect(arguments.ray, str(arguments.index))
        else:
            self.of = (Shards if is_sharded(arguments.index) else Collection).open(arguments.index)
        self._where = parse_where(arguments.where or ())
        if arguments.source:
            raise UserError("--source is of an index that was built once, not of a collection")

    def hits(self, query: np.ndarray, k: int) -> tuple[list[str], list[Hit]]:
        """Ids, and hits as they are shown."""
        from kmm_jax.retrieval.lookup import caption
        from kmm_jax.retrieval.sheet import Hit

        found = self.of.search(query, k, where=self._where or None)
        if not found.complete:
            print("a shard did not answer: this is of the others alone", file=sys.stderr)
        ids = found.ids[0]
        hits = [
            Hit(image=None, caption=caption(values) or each, score=float(score))
            for each, values, score in zip(ids, self.of.columns(ids), found.scores[0], strict=True)
        ]
        return ids, hits


def _draw(arguments: argparse.Namespace, hits: list[Hit], query_image: Any) -> None:
    from kmm_jax.retrieval.sheet import Search, write_sheet_html, write_sheet_png

    said = " ".join(arguments.text)
    title = " ".join(
        filter(None, (arguments.image and f"이미지 검색: {arguments.image.name}", said))
    )
    if arguments.sheet.suffix.lower() == ".png":
        write_sheet_png(arguments.sheet, title, hits, query_image=query_image)
    else:
        search = Search(title=title, hits=hits, query_image=query_image, note=str(arguments.index))
        write_sheet_html(arguments.sheet, [search])
    print(f"drawn: {arguments.sheet}", file=sys.stderr)


def _model_path(index: Index | Searched, given: str | None) -> str:
    if given:
        return given
    noted = index.metadata.get("model_path")
    if not noted or not (is_url(noted) or Path(noted).exists()):
        raise UserError(
            f"the model that {index.folder} was built with "
            + (f"is no longer at {noted}" if noted else "was not noted")
            + "; say where it is with --model"
        )
    return str(noted)


def _lookup(index: Index, given: str | None) -> RowLookup | None:
    """Rows of the source; None, with a line said why, where the noted one cannot be opened."""
    from kmm_jax.data.sources import open_source
    from kmm_jax.retrieval.lookup import RowLookup

    spans, noted = index.metadata.get("spans"), index.metadata.get("source")
    if given:
        if spans is None:
            raise UserError(f"{index.folder} does not know which rows of a source it holds")
        return RowLookup(open_source(given), spans)
    if not noted or spans is None:
        return None
    try:
        return RowLookup(open_source(noted), spans)
    except UserError as error:
        print(f"without pictures and captions: {error}", file=sys.stderr)
        return None


def _progress_line() -> Callable[[str], None]:
    """Rewrites one line of a terminal; into a file, a line every ten seconds."""
    last = time.monotonic()

    def say(text: str) -> None:
        nonlocal last
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif text and time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return say
