"""``kmm attributes``: which attributes the things in a picture have (slide 3.1)."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import UserError

if TYPE_CHECKING:
    from kmm_jax.evaluation.attributes import AttributeQueries
    from kmm_jax.inference.attributes import AttributeSearch, Found


def add(commands: Any) -> None:
    """Add ``kmm attributes``."""
    command = commands.add_parser(
        "attributes", help="name the attributes of things in pictures (토스타일: 라운드 토)"
    )
    parts = command.add_subparsers(dest="attributes_command", required=True, metavar="COMMAND")

    fit = parts.add_parser(
        "fit",
        help="collect the attributes there are, and calibrate a model's scores for them",
        description="Calibration needs rows that the model was not trained on; those named here "
        "should be other ones than those of kmm attributes evaluate.",
    )
    _add_model(fit, "shards whose records have items, or category and attributes")
    fit.add_argument("--output", type=Path, required=True, metavar="FILE.json")
    fit.add_argument(
        "--least", type=int, default=5, metavar="N", help="things that have it (default: 5)"
    )
    fit.set_defaults(run=_fit)

    find = parts.add_parser("find", help="the likeliest attributes of pictures")
    find.add_argument("model", metavar="MODEL", help="a run or an exported model; or its URL")
    find.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    find.add_argument(
        "--vocabulary", type=Path, required=True, metavar="FILE", help="of kmm attributes fit"
    )
    find.add_argument(
        "--category",
        action="append",
        metavar="NAME",
        help="what is asked about, such as 신발; repeatable (default: the picture alone)",
    )
    find.add_argument("--top", type=int, default=5, metavar="N", help="default: %(default)s")
    find.add_argument("--json", action="store_true", help="for programs")
    find.set_defaults(run=_find)

    evaluate = parts.add_parser("evaluate", help="how often they are right, by key")
    _add_model(evaluate, "shards to ask about")
    evaluate.add_argument(
        "--vocabulary", type=Path, required=True, metavar="FILE", help="of kmm attributes fit"
    )
    evaluate.add_argument(
        "--output", type=Path, metavar="DIR", help="write evaluation.json and .md"
    )
    evaluate.set_defaults(run=_evaluate)


def _add_model(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("model", metavar="MODEL", help="a run or an exported model; or its URL")
    command.add_argument("source", metavar="SHARDS", help=what)
    command.add_argument("--limit", type=int, metavar="ROWS", help="only so many of its first rows")
    command.add_argument("--batch-size", type=int, default=64)


def _fit(arguments: argparse.Namespace) -> int:
    from kmm_jax.data.sources import open_source
    from kmm_jax.data.statements import described
    from kmm_jax.evaluation.attributes import calibrate
    from kmm_jax.inference import load
    from kmm_jax.inference.attributes import AttributeSearch, vocabulary_of

    source = open_source(arguments.source)
    total = min(arguments.limit or len(source), len(source))
    rows = (described(source.read(number).record) for number in range(total))
    vocabulary = vocabulary_of((row for row in rows if row is not None), least=arguments.least)
    model = load(arguments.model)
    search = AttributeSearch(model, vocabulary)
    found = calibrate(_asked(arguments, search))
    vocabulary = dataclasses.replace(
        vocabulary,
        calibration=found,
        model=model.hash,
    )
    vocabulary.save(arguments.output)
    print(
        f"{arguments.output}: {len(vocabulary.attributes)} attributes of "
        f"{len(vocabulary.keys())} keys, {len(found)} of them calibrated, under "
        f"{len(vocabulary.categories)} categories"
    )
    return 0


def _find(arguments: argparse.Namespace) -> int:
    from kmm_jax.inference.attributes import as_json
    from kmm_jax.text.normalize import normalize

    search = _search(arguments)
    known = search.vocabulary.categories
    answers = []
    for path in arguments.images:
        for asked in arguments.category or [""]:
            name = normalize(asked)
            if name and known and name not in known:
                print(
                    f"note: no category {name!r} was learned; there are, for example, "
                    f"{', '.join(list(known)[:8])}",
                    file=sys.stderr,
                )
            found = search.find(path, name, top=arguments.top)
            answers.append({"image": str(path), "category": name, "attributes": as_json(found)})
            if not arguments.json:
                print(_table(path, name, found))
    if arguments.json:
        print(json.dumps(answers, ensure_ascii=False, indent=1))
    return 0


def _table(path: Path, category: str, found: list[Found]) -> str:
    """The slide's: key and value, with how sure it is."""
    title = f"{path}" + (f" + '{category}'" if category else "")
    rows = [("속성 키", "속성 값", "확률" if found[0].probability is not None else "유사도")]
    for one in found:
        sure = f"{one.score:.3f}" if one.probability is None else f"{one.probability:.0%}"
        rows.append((one.attribute.key, one.attribute.value, sure))
    widths = [max(_columns(row[place]) for row in rows) for place in range(3)]

    def line(row: tuple[str, ...]) -> str:
        cells = zip(row, widths, strict=True)
        return "  ".join(cell + " " * (width - _columns(cell)) for cell, width in cells).rstrip()

    lines = [line(row) for row in rows]
    return "\n".join([title, *(f"  {each}" for each in lines), ""])


def _columns(text: str) -> int:
    """Of a terminal, in which a Hangul syllable takes two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def _evaluate(arguments: argparse.Namespace) -> int:
    from kmm_jax.evaluation import report
    from kmm_jax.evaluation.attributes import score_attributes

    search = _search(arguments)
    asked = _asked(arguments, search)
    calibration = dict(search.vocabulary.calibration)
    table = score_attributes(asked, name=arguments.source, calibration=calibration or None)
    about = {"model": str(arguments.model), "parameters": search.model.hash}
    results = report.Results(about=about, tables=(table,))
    if arguments.output is not None:
        for path in report.write(results, arguments.output):
            print(path, file=sys.stderr)
    print(report.to_markdown(results), end="")
    return 0


def _search(arguments: argparse.Namespace) -> AttributeSearch:
    from kmm_jax.inference import load
    from kmm_jax.inference.attributes import AttributeSearch, Vocabulary

    vocabulary = Vocabulary.load(arguments.vocabulary)
    return AttributeSearch(load(arguments.model), vocabulary)


def _asked(arguments: argparse.Namespace, search: AttributeSearch) -> AttributeQueries:
    from kmm_jax.cli.progress import RowsBar
    from kmm_jax.data.sources import open_source
    from kmm_jax.evaluation.attributes import ask_attributes

    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit must be at least 1, got {arguments.limit}")
    with RowsBar("asking") as bar:
        return ask_attributes(
            open_source(arguments.source),
            lambda images, names: search.scores(images, names, batch_size=arguments.batch_size),
            search.vocabulary.attributes,
            image_size=search.model.image_size,
            batch_size=arguments.batch_size,
            limit=arguments.limit,
            progress=bar,
        )
