"""``kmm eval``: a suite of known benchmarks, for any number of models side by side."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.cli import eval_thumbnail
from kmm_jax.errors import UserError, nearest

if TYPE_CHECKING:
    from kmm_jax.evaluation.suite.benchmark import Benchmark, Measured
    from kmm_jax.evaluation.suite.forms import Places

_SUITES = ("ko",)


def add(commands: Any) -> None:
    """Add ``kmm eval``."""
    command = commands.add_parser(
        "eval",
        help="score models on a suite of known benchmarks (kmm eval MODEL --suite ko), or on "
        "labelled thumbnails (kmm eval thumbnail LABELS.jsonl)",
        description="Measures every benchmark of the suite that is there, and lists the others "
        "with where to get them. What is measured is kept: the same command goes on from it. With "
        "'thumbnail' in the place of a model: the table of labelled thumbnails, see below.",
    )
    command.add_argument(
        "models",
        nargs="*",
        metavar="[TITLE=]MODEL",
        help="run directories, exported models or other libraries' weights; or their URLs",
    )
    command.add_argument("--suite", choices=_SUITES, default="ko", help="default: %(default)s")
    command.add_argument("--list", action="store_true", help="say what is there and what is not")
    command.add_argument(
        "--data",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="where benchmarks are; may be repeated (default: KMM_DATA_DIR)",
    )
    command.add_argument(
        "--tfds", type=Path, metavar="DIR", help="where TensorFlow Datasets are prepared"
    )
    command.add_argument("--only", metavar="A,B", help="only these benchmarks")
    command.add_argument("--tasks", metavar="A,B", help="only these tasks, such as zero_shot")
    command.add_argument("--lang", default="ko,en", help="default: %(default)s")
    command.add_argument(
        "--limit",
        type=int,
        metavar="ROWS",
        help="of each benchmark only so many images, for a first look",
    )
    command.add_argument("--batch-size", type=int, default=64)
    command.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="default: runs/suite, of thumbnails runs/thumbnail",
    )
    eval_thumbnail.add_arguments(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure what is there; write and name the pages."""
    if arguments.models[:1] == [eval_thumbnail.NAME]:
        return eval_thumbnail.run(arguments, arguments.models[1:])
    if arguments.most_bad is not None or arguments.sure is not None:
        raise UserError("--most-bad and --sure are of kmm eval thumbnail LABELS.jsonl")
    arguments.output = arguments.output or Path("runs/suite")
    from kmm_jax.evaluation.suite import run as suites
    from kmm_jax.evaluation.suite.benchmark import LANGUAGES, TASKS
    from kmm_jax.evaluation.suite.forms import Places
    from kmm_jax.evaluation.suite.korean import SUITE

    benchmarks = suites.chosen(SUITE, _names(arguments.only))
    folders = arguments.data or [Path(one) for one in (os.environ.get("KMM_DATA_DIR"),) if one]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--data takes folders, and {folder} is none")
    places = Places(folders=tuple(folders), tfds=arguments.tfds)
    if arguments.list:
        return _list(benchmarks, places)
    if not arguments.models:
        raise UserError("give at least one model, or --list to see which benchmarks are there")
    wanted = suites.Wanted(
        benchmarks=benchmarks,
        languages=_known(arguments.lang, "language", LANGUAGES),
        tasks=_known(arguments.tasks, "task", TASKS) if arguments.tasks else None,
        limit=arguments.limit,
    )
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit must be at least 1, got {arguments.limit}")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f"--output must be a folder, but {arguments.output} is a file")
    if not suites.there(benchmarks, places):
        raise UserError(
            "none of these benchmarks is there; name a folder with --data or KMM_DATA_DIR "
            "(kmm eval --list says what is looked for, and where to get it)"
        )
    return _measure(arguments, wanted, places)


def _measure(arguments: argparse.Namespace, wanted: Any, places: Places) -> int:
    from kmm_jax import inference
    from kmm_jax.evaluation.suite import page
    from kmm_jax.evaluation.suite import run as suites

    results = []
    for title, path in _titled(arguments.models):

        def say(benchmark: Benchmark, measured: Measured, title: str = title) -> None:
            first = measured.figures[0] if measured.figures else None
            shown = "" if first is None else f", {first.metric} {first.value:.3f}"
            print(f"{title}: {benchmark.title}{shown}", file=sys.stderr)

        results.append(
            suites.run(
                title,
                inference.load(path),
                wanted,
                places=places,
                kept=arguments.output / "measured",
                batch_size=arguments.batch_size,
                progress=_progress if sys.stderr.isatty() else None,
                done=say,
            )
        )
    about = {"command": shlex.join(["kmm", *sys.argv[1:]]), "limit": arguments.limit}
    written = page.write(arguments.output, results, wanted.benchmarks, about=about)
    print(page.to_markdown(results, wanted.benchmarks), end="")
    print(", ".join(str(path) for path in written))
    return 0


def _list(benchmarks: tuple[Benchmark, ...], places: Places) -> int:
    from kmm_jax.evaluation.suite import run as suites

    found = suites.there(benchmarks, places)
    for benchmark in benchmarks:
        tasks = ", ".join(benchmark.tasks)
        print(f"{benchmark.name}: {benchmark.title} ({tasks})")
        if benchmark.name in found:
            print(f"  there: {found[benchmark.name]}")
        else:
            print(f"  not there; from {benchmark.get} ({benchmark.licence})")
            for layout in benchmark.layouts:
                print(f"  looked for: {layout}")
    return 0


def _titled(models: list[str]) -> list[tuple[str, str]]:
    """Titles and paths; a title by default is the last part of its path."""
    found = []
    for one in models:
        title, equals, path = one.partition("=")
        if not equals or "/" in title:
            title, path = Path(one.rstrip("/")).name, one
        found.append((title, path))
    titles = [title for title, _ in found]
    if len(set(titles)) < len(titles):
        raise UserError(
            f"two models have the same title ({', '.join(titles)}); name them: TITLE=MODEL"
        )
    return found


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _known(text: str, kind: str, known: Any) -> Any:
    names = _names(text) or []
    for name in names:
        if name not in known:
            raise UserError(f"no {kind} {name!r}{nearest(name, known)}")
    if not names:
        raise UserError(f"give at least one {kind}")
    return tuple(names)


def _progress(what: str, done: int, total: int) -> None:
    print(
        f"\r{what}: {done:,} of {total:,} rows", end="\n" if done >= total else "", file=sys.stderr
    )
