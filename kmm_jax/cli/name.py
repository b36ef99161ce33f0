"""``kmm name``: the names of places or products in pictures (slides 5.3, 5.4)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.cli.arguments import absolute_source
from kmm_jax.data.storage import is_url
from kmm_jax.errors import UserError

if TYPE_CHECKING:
    from kmm_jax.search.naming.asking import Answer, Namer
    from kmm_jax.search.naming.database import Built
    from kmm_jax.search.naming.scoring import Asked

NONE = "이 중에 없음 (none of these)"


def add(commands: Any) -> None:
    """Add ``kmm name``."""
    command = commands.add_parser(
        "name", help="name the places or products in pictures, by a database of your own"
    )
    parts = command.add_subparsers(dest="name_command", required=True, metavar="COMMAND")

    build = parts.add_parser(
        "build",
        help="make a database of pictures with names",
        description="Any source of pictures with texts: shards, folder+tsv:IMAGES,TABLE?..., or "
        "tfds:name/split. Run again after a kill, it goes on.",
    )
    build.add_argument("database", type=Path, metavar="DIR")
    build.add_argument("source", metavar="SOURCE")
    build.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="MODEL",
        help="that sees pictures and reads names; repeat it, and their candidates are united",
    )
    _add_field(build)
    build.add_argument(
        "--template",
        default="{name}",
        metavar="TEXT",
        help='the sentence of a name, such as "{name} 사진" (default: the name alone)',
    )
    _add_reading(build)
    build.set_defaults(run=_build)

    more = parts.add_parser("add", help="put more pictures into a database")
    more.add_argument("database", type=Path, metavar="DIR")
    more.add_argument("source", metavar="SOURCE")
    _add_field(more, needed=False)
    _add_reading(more)
    more.set_defaults(run=_more)

    fit = parts.add_parser(
        "fit",
        help="learn to rank candidates again, and when it is none of them",
        description="From pictures that are not in the database and that no model was trained on.",
    )
    _add_asked(fit)
    fit.add_argument(
        "--unknown",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="of the pictures that will be asked about, those that have no name here "
        "(default: %(default)s)",
    )
    fit.set_defaults(run=_fit)

    find = parts.add_parser("find", help="the likeliest names of pictures")
    find.add_argument("database", type=Path, metavar="DIR")
    find.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    find.add_argument("--top", type=int, default=5, metavar="N", help="(default: %(default)s)")
    find.add_argument(
        "--floor",
        type=float,
        metavar="P",
        help="say no name of a lower probability (default: that of none of these)",
    )
    find.add_argument(
        "--box", metavar="X0,Y0,X1,Y1", help="the part of the pictures that counts, in shares"
    )
    find.add_argument("--json", action="store_true", help="print JSON")
    _add_models(find)
    find.set_defaults(run=_find)

    evaluate = parts.add_parser(
        "evaluate", help="how often they are right: each model, united, ranked again"
    )
    _add_asked(evaluate)
    evaluate.add_argument(
        "--output", type=Path, metavar="DIR", help="write evaluation.json and .md"
    )
    evaluate.set_defaults(run=_evaluate)


def _add_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument("--batch-size", type=int, default=64, metavar="N")
    command.add_argument(
        "--max-bad-share", type=float, default=0.01, metavar="SHARE", help="more bad rows stop it"
    )


def _add_field(command: argparse.ArgumentParser, *, needed: bool = True) -> None:
    command.add_argument(
        "--field",
        required=needed,
        metavar="FIELD",
        help="of the records that holds the name: product_name, labels.type, a column of the table",
    )
    command.add_argument("--limit", type=int, metavar="ROWS", help="only so many of its first rows")


def _add_models(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", action="append", metavar="MODEL", help="all of them, if they are elsewhere now"
    )


def _add_asked(command: argparse.ArgumentParser) -> None:
    command.add_argument("database", type=Path, metavar="DIR")
    command.add_argument("source", metavar="SOURCE", help="of pictures with their names")
    _add_field(command)
    _add_models(command)


def _build(arguments: argparse.Namespace) -> int:
    from kmm_jax.inference import load
    from kmm_jax.search.naming.database import build

    models = [each if is_url(each) else str(Path(each).resolve()) for each in arguments.model]
    return _filled(
        arguments,
        lambda source, **reading: build(
            arguments.database,
            source,
            models,
            load=load,
            field=arguments.field,
            template=arguments.template,
            **reading,
        ),
    )


def _more(arguments: argparse.Namespace) -> int:
    from kmm_jax.inference import load
    from kmm_jax.search.naming.database import add

    return _filled(
        arguments,
        lambda source, **reading: add(
            arguments.database, source, load=load, field=arguments.field, **reading
        ),
    )


def _filled(arguments: argparse.Namespace, fill: Callable[..., Built]) -> int:
    from kmm_jax.cli.progress import RowsBar
    from kmm_jax.data.sources import open_source

    _check_limit(arguments)
    url = absolute_source(arguments.source)
    source = open_source(url)
    with RowsBar("pictures") as bar:
        built = fill(
            source,
            source_url=url,
            limit=arguments.limit,
            batch_size=arguments.batch_size,
            max_bad_share=arguments.max_bad_share,
            tell=lambda model, progress: bar(progress.done, progress.total),
        )
    left = (
        (built.nameless, "without a name"),
        (built.bad, "bad"),
        (built.repeated, "that stood before"),
    )
    print(
        f"{arguments.database}: {built.names:,} names, {built.pictures:,} pictures"
        + "".join(f"; {count:,} {why} left out" for count, why in left if count)
    )
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    from kmm_jax.search.naming.scoring import fit_ranker

    if not 0 < arguments.unknown < 1:
        raise UserError(f"--unknown is a share between 0 and 1, got {arguments.unknown}")
    namer, asked, _ = _asked(arguments, without=True, ranked=False)
    ranker = fit_ranker(namer, asked, unknown=arguments.unknown)
    ranker.save(arguments.database)
    print(f"{arguments.database}: ranks by what {len(asked):,} pictures taught")
    order = sorted(zip(ranker.features, ranker.weight_F, strict=True), key=lambda one: -abs(one[1]))
    for feature, weight in order:
        print(f"  {weight:+.3f}  {feature}")
    return 0


def _find(arguments: argparse.Namespace) -> int:
    from kmm_jax.cli.arguments import open_picture
    from kmm_jax.retrieval.regions import checked_box, cropped

    box = None
    if arguments.box:
        try:
            box = checked_box([float(each) for each in arguments.box.split(",")])
        except ValueError as error:
            raise UserError(f"--box {arguments.box!r}: write X0,Y0,X1,Y1, as 0,0.5,1,1") from error
    pictures = [open_picture(path) for path in arguments.images]
    if box is not None:
        pictures = [cropped(picture, box) for picture in pictures]
    namer = _namer(arguments)
    answers = [
        namer.name(picture, most=arguments.top, floor=arguments.floor) for picture in pictures
    ]
    if arguments.json:
        said = [
            {"image": str(path), **as_json(answer)}
            for path, answer in zip(arguments.images, answers, strict=True)
        ]
        print(json.dumps(said, ensure_ascii=False, indent=1))
        return 0
    for path, answer in zip(arguments.images, answers, strict=True):
        print(path)
        for line in _lines(answer):
            print(f"  {line}")
    return 0


def as_json(answer: Answer) -> dict[str, Any]:
    """An answer as plain values."""
    return {
        "known": answer.known,
        "none": answer.none,
        "names": [
            {
                "name": each.name,
                "probability": each.probability,
                "score": each.score,
                "parts": each.parts,
            }
            for each in answer.names
        ],
    }


def _lines(answer: Answer) -> list[str]:
    found = [
        (each.score, each.name, f"{each.score:.4f}" if answer.none is None else f"{each.score:.0%}")
        for each in answer.names
    ]
    if answer.none is not None:
        found.append((2.0 if not answer.known else answer.none, NONE, f"{answer.none:.0%}"))
        found.sort(key=lambda one: -one[0])
    return [f"{shown:>6}  {name}" for _, name, shown in found]


def _evaluate(arguments: argparse.Namespace) -> int:
    from kmm_jax.evaluation import report
    from kmm_jax.search.naming.scoring import score

    namer, asked, left_out = _asked(arguments, without=True, ranked=True)
    table = score(namer, asked, left_out=left_out, name=arguments.source)
    about = {"database": str(arguments.database), "models": ", ".join(namer.database.hashes)}
    results = report.Results(about=about, tables=(table,))
    if arguments.output is not None:
        for path in report.write(results, arguments.output):
            print(path, file=sys.stderr)
    print(report.to_markdown(results), end="")
    return 0


def _asked(
    arguments: argparse.Namespace, *, without: bool, ranked: bool
) -> tuple[Namer, list[Asked], dict[str, int]]:
    from kmm_jax.cli.progress import RowsBar
    from kmm_jax.data.sources import open_source
    from kmm_jax.search.naming.scoring import ask

    _check_limit(arguments)
    source = open_source(absolute_source(arguments.source))
    namer = _namer(arguments)
    with RowsBar("asking") as bar:
        asked, left_out = ask(
            namer,
            source,
            arguments.field,
            limit=arguments.limit,
            without=without and (not ranked or namer.ranker is not None),
            tell=bar,
        )
    return namer, asked, left_out


def _check_limit(arguments: argparse.Namespace) -> None:
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit must be at least 1, got {arguments.limit}")


def _namer(arguments: argparse.Namespace) -> Namer:
    from kmm_jax.inference import load
    from kmm_jax.search.naming.asking import Namer

    return Namer.open(arguments.database, load, models=arguments.model or ())
