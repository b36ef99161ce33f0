"""``kmm corpus``: from documents, images and clicks to clean training shards."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from kmm_jax.cli import corpus_noise, corpus_purge, corpus_sweep
from kmm_jax.cli.arguments import add_config


def add(subparsers: Any) -> None:
    """Add ``kmm corpus`` and its sub-commands."""
    corpus = subparsers.add_parser("corpus", help="build clean training shards")
    commands = corpus.add_subparsers(dest="corpus_command", required=True, metavar="COMMAND")
    _add_build(commands)
    _add_extract_korean(commands)
    _add_report(commands)
    _add_clean_text(commands)
    corpus_sweep.add(commands)
    corpus_purge.add(commands)
    corpus_noise.add(commands)


def _add_build(commands: Any) -> None:
    build = commands.add_parser(
        "build",
        help="from raw tables to shards; the same command again continues it",
        description="Look at every picture, clean every text, join them, drop copies and write "
        "shards. What is done is not done again, whatever was killed; the shards appear when all "
        "of them are whole.",
    )
    add_config(
        build,
        name="corpus/tables",
        overrides="such as images.0.url='raw/images-*.parquet' image_rules.least_side=256",
    )
    build.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="for shards/ and work/"
    )
    build.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="let a Ray cluster do the work: ray://HOST:10001, HOST:6379 or auto; its nodes must "
        "see the input and FOLDER under the same names",
    )
    build.add_argument("--no-report", action="store_true", help="do not write FOLDER/report.html")
    build.set_defaults(run=_build)


def _build(arguments: argparse.Namespace) -> int:
    from kmm_jax.corpus.build import build
    from kmm_jax.corpus.config import CorpusConfig
    from kmm_jax.corpus.funnel import Lines, table
    from kmm_jax.training.config_file import load_config

    config = load_config(
        arguments.config, arguments.overrides, function="corpus", kind=CorpusConfig
    )
    lines = Lines(sys.stderr)
    manifest = build(config, arguments.output, lines.progress, cluster=arguments.cluster,
                     report=not arguments.no_report)  # fmt: skip
    lines.close()
    print(table(manifest), end="")
    print(f"{arguments.output / 'shards'}: {manifest['rows']:,} rows in "
          f"{len(manifest['shards']):,} shards")  # fmt: skip
    if not arguments.no_report:
        print(f"report: {arguments.output / 'report.html'}")
    return 0


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="make the page and the data card of a build again",
        description="Write FOLDER/report.html and the data card in FOLDER/shards from what the "
        "build left in FOLDER/work. Nothing is looked at again, and what was purged since is not "
        "shown.",
    )
    report.add_argument("folder", type=Path, metavar="FOLDER", help="the build's --output")
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    from kmm_jax.corpus.report.write import rewrite

    print(f"report: {rewrite(arguments.folder)}")
    return 0


def _add_extract_korean(commands: Any) -> None:
    extract = commands.add_parser(
        "extract-korean",
        help="rows with Korean texts out of LAION's, COYO's, WIT's or CC's metadata",
        description="Write part-00000.parquet ... of url, text and scores, one for each input "
        "file, and summary.json with what became of every row. The same command again continues "
        "it. The parts are what img2dataset downloads from.",
    )
    extract.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="files, patterns or folders; local or URLs"
    )
    extract.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    extract.add_argument(
        "--format",
        choices=("auto", "laion", "coyo", "wit", "cc"),
        default="auto",
        help="of the metadata (default: as the columns say)",
    )
    extract.add_argument(
        "--hangul",
        type=float,
        default=0.5,
        metavar="X",
        help="least share of Hangul among a text's letters (default: %(default)s)",
    )
    extract.add_argument(
        "--least-side", type=int, default=0, metavar="PIXELS", help="where the metadata says sizes"
    )
    extract.add_argument("--tasks", type=int, metavar="N", help="files at a time")
    extract.set_defaults(run=_extract_korean)


def _extract_korean(arguments: argparse.Namespace) -> int:
    from kmm_jax.corpus.extract import Korean, extract, next_command
    from kmm_jax.corpus.funnel import Lines

    lines = Lines(sys.stderr)
    summary = extract(
        arguments.inputs,
        arguments.output,
        name=arguments.format,
        korean=Korean(share=arguments.hangul, least_side=arguments.least_side),
        at_a_time=arguments.tasks,
        progress=lines.progress,
    )
    lines.close()
    for reason, count in sorted(summary["counts"].items(), key=lambda item: -item[1]):
        print(f"{count:>14,}  {reason}")
    print(f"next: {next_command(arguments.output)}")
    return 0


def _add_clean_text(commands: Any) -> None:
    clean = commands.add_parser(
        "clean-text",
        help="judge the lines of standard input",
        description="One JSON object a line: the clean text, keep, mask or reject, the reasons, "
        "and where they stand in the line (code points). All reasons reject unless told.",
    )
    for option, action, what in (
        ("--mask", "mask", "take out what was found, and keep the rest"),
        ("--off", "off", "do not look for them"),
    ):
        clean.add_argument(
            option,
            dest=action,
            action="append",
            default=[],
            metavar="REASON[,REASON]",
            help=f"{what}; `personal` stands for all personal data",
        )
    clean.add_argument("--mask-with", metavar="TEXT", help="what stands for it (default: ***)")
    clean.add_argument("--symbol-share", type=float, metavar="X", help="of symbols (default: 0.5)")
    clean.add_argument(
        "--no-latin", action="store_true", help="Latin letters do not count as symbols"
    )
    clean.add_argument("--hanja", action="store_true", help="Chinese characters are Korean")
    for name in ("profanity", "adult", "noise-topic", "allow"):
        clean.add_argument(
            f"--{name}-list",
            dest=f"{name.replace('-', '_')}_lists",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help="more entries, one a line",
        )
    clean.set_defaults(run=_clean_text)


def _clean_text(arguments: argparse.Namespace) -> int:
    from kmm_jax.corpus.text import Cleaner
    from kmm_jax.corpus.text.stream import clean_lines

    cleaner = Cleaner(_text_rules(arguments))
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        clean_lines(sys.stdin.buffer, sys.stdout, cleaner)
    except BrokenPipeError:
        # The reader has had enough (| head); what Python flushes at its end goes nowhere, quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _text_rules(arguments: argparse.Namespace) -> Any:
    from kmm_jax.corpus.text import PERSONAL, REASONS, TextRules
    from kmm_jax.errors import UserError, nearest

    options: dict[str, Any] = {}
    for action in ("mask", "off"):
        for name in ",".join(getattr(arguments, action)).split(","):
            reasons = PERSONAL if name == "personal" else (name,)
            if name and name not in (*REASONS, "personal"):
                raise UserError(f"--{action}: no reason {name!r}" + nearest(name, REASONS))
            options |= {reason: action for reason in reasons if reason}
    if arguments.mask_with is not None:
        options["mask"] = arguments.mask_with
    if arguments.symbol_share is not None:
        options["symbol_share"] = arguments.symbol_share
    for kind in ("profanity", "adult", "noise_topic", "allow"):
        options[f"{kind}_lists"] = tuple(getattr(arguments, f"{kind}_lists"))
    return TextRules(count_latin=not arguments.no_latin, hanja=arguments.hanja, **options)
