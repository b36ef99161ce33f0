"""``kmm data``: check a set, index its shards, turn a known set into shards."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmm_jax.data.sources import Source

_MAX_BAD_SHARE = 0.01
_SAMPLE_ROWS = 16
_SAMPLE = "first_batch.png"


def add(subparsers: Any) -> None:
    """Add ``kmm data`` and its sub-commands."""
    data = subparsers.add_parser("data", help="check, index and write data sets")
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    check = commands.add_parser(
        "check",
        help="read every row and report what is wrong",
        description="Read and decode every row of a set; report bad rows, duplicates, sizes and "
        "texts that would be cut, and draw the first augmented batch. "
        f"Exits with 2 if more than {_MAX_BAD_SHARE:.0%} of the rows are bad.",
    )
    check.add_argument("path", metavar="PATH", help="shards, folder+tsv:... or tfds:name/split")
    check.add_argument(
        "--tokenizer",
        metavar="DIR",
        help="report the texts it cuts off (default: the folder tokenizer beside the set, if any)",
    )
    check.add_argument("--image-size", type=int, default=224, metavar="N", help="of the sample")
    check.add_argument("--text-length", type=int, default=64, metavar="L", help="in tokens")
    sample = check.add_mutually_exclusive_group()
    sample.add_argument(
        "--sample",
        type=Path,
        default=Path(_SAMPLE),
        metavar="OUT.png",
        help="where the first augmented batch is drawn (default: %(default)s)",
    )
    sample.add_argument(
        "--no-sample", dest="sample", action="store_const", const=None, help="draw none"
    )
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    check.set_defaults(run=_check)

    index = commands.add_parser("index", help="build the member indexes of shards")
    index.add_argument("paths", nargs="+", metavar="PATH", help="shards, folders, globs or URLs")
    index.set_defaults(run=_index)

    shards = commands.add_parser("shards", help="write a known set as shards")
    shards.add_argument("name", metavar="NAME", help="shop, cifar10, fashion_products, ...")
    shards.add_argument("--output", type=Path, required=True, metavar="DIR")
    shards.add_argument("--folder", type=Path, metavar="F", help="where the original files are")
    shards.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="rows of each split, at most; shop: training rows (4000)",
    )
    shards.add_argument("--image-size", type=int, default=160, metavar="N", help="shop: pixels")
    shards.add_argument("--seed", type=int, default=0, metavar="S", help="shop: what is rendered")
    shards.add_argument(
        "--english", action="store_true", help="shop: English captions and queries as well"
    )
    shards.add_argument(
        "--questions", action="store_true", help="shop: questions with answers as well"
    )
    shards.add_argument(
        "--attributes", action="store_true", help="shop: each thing's category and attributes"
    )
    shards.set_defaults(run=_shards)


def _check(arguments: argparse.Namespace) -> int:
    from kmm_jax.data.check import check
    from kmm_jax.data.config import DataConfig, thread_count
    from kmm_jax.data.patterns import expand, sets
    from kmm_jax.data.sources import ShardSource, open_source

    folder = arguments.tokenizer or _tokenizer_beside(Path(arguments.path))
    tokenizer = None
    if folder:
        from kmm_jax.text.tokenizer import Tokenizer

        tokenizer = Tokenizer.load(folder)
    config = DataConfig(
        sources=(), image_size=arguments.image_size, text_length=arguments.text_length
    )
    if Path(arguments.path).is_dir():
        # A folder may hold several sets; duplicates between train and test matter too.
        shards = [shard for some in sets(expand(arguments.path)).values() for shard in some]
        source: Source = ShardSource(shards)
        source.name = arguments.path
    else:
        source = open_source(arguments.path)
    report = check(
        source,
        tokenizer=tokenizer,
        text_length=arguments.text_length,
        threads=thread_count(config),
        progress=lambda rows: _progress(f"{rows:,} of {len(source):,} rows read"),
    )
    _progress("")
    summary = report.summary(tokens=arguments.text_length if tokenizer else None)
    is_usable = report.bad_share <= _MAX_BAD_SHARE
    summary["usable"] = is_usable
    if arguments.sample and len(report.sides):
        _draw(source, config, arguments.sample)
        summary["sample"] = str(arguments.sample)
    if arguments.json:
        print(json.dumps(summary, ensure_ascii=False, indent=2))
    else:
        print(_page(summary))
    return 0 if is_usable else 2


def _tokenizer_beside(path: Path) -> Path | None:
    """The folder ``tokenizer`` in, or beside, what was named, as the quickstart lays it."""
    places = (path / "tokenizer", path.parent / "tokenizer")
    return next((place for place in places if (place / "tokenizer.json").is_file()), None)


def _draw(source: Source, config: Any, path: Path) -> None:
    import dataclasses

    from kmm_jax.data.bad_rows import BadRows
    from kmm_jax.data.config import SourceConfig
    from kmm_jax.data.pipeline import examples
    from kmm_jax.data.schema import TEXT_FIELDS
    from kmm_jax.data.sheet import write_sheet

    config = dataclasses.replace(
        config,
        sources=(SourceConfig(url=source.name),),
        fields=tuple((field, 1.0) for field in TEXT_FIELDS),
    )
    bad_rows = BadRows([(source.name, len(source))], max_share=1.0)
    batch = examples(config, [source], bad_rows)
    write_sheet(path, [batch[row] for row in range(min(_SAMPLE_ROWS, len(source)))])


def _page(summary: dict[str, Any]) -> str:
    lines = [f"{summary['name']}: {summary['rows']:,} rows"]
    reasons = ", ".join(f"{count:,} {name}" for name, count in summary["bad_reasons"].items())
    lines.append(
        f"bad rows        {summary['bad_rows']:,} ({summary['bad_share']:.2%})"
        + (f": {reasons}" if reasons else "")
    )
    lines += [f"  {example}" for example in summary["bad_examples"]]
    if summary["bad_rows"] > len(summary["bad_examples"]):
        lines.append(f"  ... and {summary['bad_rows'] - len(summary['bad_examples']):,} more")
    lines.append(
        f"duplicates      {summary['duplicate_image_hash']:,} by image_hash, "
        f"{summary['duplicate_image_bytes']:,} by the image's bytes"
    )
    for name in ("width", "height", "image_bytes"):
        spread = summary[name]
        if spread:
            low, median, high = (f"{spread[key]:,.0f}" for key in ("min", "median", "max"))
            lines.append(f"{name:<16}{low} to {high}, median {median}")
    for field, count in summary["texts"].items():
        cut = summary["truncated_share"]
        shown = f", {cut[field]:.1%} longer than {summary['text_length']} tokens" if cut else ""
        lines.append(f"{field:<16}{count:,} texts{shown}")
    if summary["truncated_share"] is None:
        lines.append("texts cut       not counted: there is no tokenizer yet (--tokenizer DIR)")
    if "sample" in summary:
        lines.append(f"a batch is drawn in {summary['sample']}")
    lines.append(
        "usable"
        if summary["usable"]
        else f"NOT usable: more than {_MAX_BAD_SHARE:.0%} of the rows are bad"
    )
    return "\n".join(lines)


def _index(arguments: argparse.Namespace) -> int:
    from kmm_jax.data.patterns import expand
    from kmm_jax.data.tar_index import open_index

    shards = expand(arguments.paths)
    rows = 0
    for number, shard in enumerate(shards, start=1):
        rows += len(open_index(shard))
        _progress(f"{number:,} of {len(shards):,} shards indexed")
    _progress("")
    print(f"{len(shards):,} shards, {rows:,} rows")
    return 0


def _shards(arguments: argparse.Namespace) -> int:
    if arguments.name == "shop":
        from kmm_jax.data.shop import write_shop

        train = arguments.limit or 4000
        write_shop(
            arguments.output,
            train=train,
            test=max(train // 5, 1),
            seed=arguments.seed,
            image_size=arguments.image_size,
            english=arguments.english,
            questions=arguments.questions,
            attributes=arguments.attributes,
        )
        print(f"{arguments.output}: shards of the built-in shop")
        return 0
    import itertools

    from kmm_jax.data.datasets import DATASETS, open_rows
    from kmm_jax.data.shards import ShardWriter
    from kmm_jax.errors import UserError, nearest

    if arguments.name not in DATASETS:
        choices = ("shop", *DATASETS)
        raise UserError(f"no data set {arguments.name!r}" + nearest(arguments.name, choices))

    for split in ("train", "test"):
        rows = open_rows(arguments.name, arguments.folder, split)
        with ShardWriter(arguments.output, prefix=split) as writer:
            for record, image in itertools.islice(rows, arguments.limit):
                writer.write(record, image)
                if writer.rows % 500 == 0:
                    _progress(f"{split}: {writer.rows:,} rows written")
        _progress("")
        print(
            f"{arguments.output}/{split}-*.tar: {len(writer.shards)} shards, {writer.rows:,} rows"
        )
    return 0


def _progress(text: str) -> None:
    """Rewrite one line of a terminal; say nothing into a file."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
