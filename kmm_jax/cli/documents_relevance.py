"""``kmm documents evaluate`` and ``fit-fusion``: how relevant what is found is, and learning it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmm_jax.search.document_search import DocumentSearch
    from kmm_jax.search.judgements import JudgedQuery
    from kmm_jax.search.relevance import Relevance, Searched

Open = Callable[[argparse.Namespace], "DocumentSearch"]

_FORM = (
    'JSON lines, a query each: {"id": "1", "text": "빨간 체크 셔츠", "grades": {"shop-17": 3, '
    '"blog-4": 1}}, with "image" (a path) beside the text or in its place'
)


def add(actions: Any) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Add both."""
    evaluate = actions.add_parser(
        "evaluate",
        help="nDCG@10 and MRR on judged queries, for each matcher and fusion",
        description=f"{_FORM}. What is not named is not relevant. Intervals (95 %) are over "
        "queries.",
    )
    fit = actions.add_parser(
        "fit-fusion",
        help="learn from judged queries how matchers become one ranking",
        description=f"{_FORM}. It is kept with the documents; search with --fusion learned. The "
        "figures printed are of queries that were left out in turn.",
    )
    for command in (evaluate, fit):
        command.add_argument("folder", type=Path, metavar="DIR")
        command.add_argument("judgements", type=Path, metavar="FILE.jsonl")
        command.add_argument(
            "--images",
            type=Path,
            metavar="DIR",
            help="where paths of queries' pictures begin (default: where FILE lies)",
        )
        command.add_argument(
            "--least",
            type=float,
            default=1.0,
            metavar="GRADE",
            help="of a document that ends the search, for MRR (default: %(default)s)",
        )
    evaluate.add_argument("--json", type=Path, metavar="OUT.json", help="write the figures, too")
    return evaluate, fit


def run_evaluate(arguments: argparse.Namespace, open_documents: Open) -> int:
    """Measure, and print a table."""
    from kmm_jax.files import write_json
    from kmm_jax.search.learned_fusion import FusionFile
    from kmm_jax.search.relevance import relevance, ways

    judged = _judged(arguments)
    documents = open_documents(arguments)
    file = FusionFile(arguments.folder, documents.encoder.hash)
    learned = file.fusion() if file else None
    found = _searched(arguments, documents, judged)
    rows = relevance(found, ways(found, learned), least=arguments.least)
    print(_table(rows))
    if learned is not None:
        print("learned: as it is; if it was learned from these queries, fit-fusion says more")
    if arguments.json:
        write_json(arguments.json, {"rows": [_plain(row) for row in rows]})
    return 0


def run_fit(arguments: argparse.Namespace, open_documents: Open) -> int:
    """Learn, keep it, and print what it does to queries that it did not learn from."""
    from kmm_jax.search.relevance import learn, relevance

    judged = _judged(arguments)
    documents = open_documents(arguments)
    found = _searched(arguments, documents, judged)
    fusion, rankings = learn(found, documents.encoder.hash)
    documents.learn(fusion)
    print(_table(relevance(found, rankings, least=arguments.least)))
    print(
        f"{arguments.folder}: a fusion learned from {len(judged):,} queries"
        + ("; learned: of queries left out in turn" if "learned" in rankings else "")
    )
    return 0


def _judged(arguments: argparse.Namespace) -> list[JudgedQuery]:
    from kmm_jax.search.judgements import read_judgements

    return read_judgements(arguments.judgements)


def _searched(
    arguments: argparse.Namespace, documents: DocumentSearch, judged: list[JudgedQuery]
) -> list[Searched]:
    from kmm_jax.cli.progress import RowsBar
    from kmm_jax.search.pictures import PictureFolder
    from kmm_jax.search.relevance import search_judged

    known = set(documents.store.get({id for each in judged for id in each.grades}))
    missing = {id for each in judged for id in each.relevant} - known
    if missing:
        print(
            f"{len(missing):,} judged documents are not there, such as {min(missing)!r}; they "
            "count as not found",
            file=sys.stderr,
        )
    pictures = PictureFolder(arguments.images or arguments.judgements.parent)
    with RowsBar("queries") as bar:
        return search_judged(documents, judged, pictures.open, tell=bar)


def _table(rows: list[Relevance]) -> str:
    lines = [f"{'queries':<14}{'by':<10}{'nDCG@10':>22}{'MRR':>22}"]
    before = ""
    for row in rows:
        name = f"{row.kind} ({row.queries:,})" if row.kind != before else ""
        before = row.kind
        figures = "".join(
            f"{100 * each.value:9.1f} ({100 * each.low:.1f}-{100 * each.high:.1f})".rjust(22)
            for each in (row.ndcg, row.mrr)
        )
        lines.append(f"{name:<14}{row.way:<10}{figures}")
    return "\n".join(lines)


def _plain(row: Relevance) -> dict[str, Any]:
    plain: dict[str, Any] = {"queries": row.queries, "kind": row.kind, "by": row.way}
    for name, figure in (("ndcg@10", row.ndcg), ("mrr", row.mrr)):
        plain[name] = {"value": figure.value, "low": figure.low, "high": figure.high}
    return plain
