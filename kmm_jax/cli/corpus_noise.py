"""``kmm corpus noise-words``: frequent words whose pictures do not agree, for a person to judge."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError

_SECONDS_BETWEEN_LINES = 5.0


def add(commands: Any) -> None:
    """Add ``kmm corpus noise-words``."""
    noise = commands.add_parser(
        "noise-words",
        help="propose words that many search for and no picture shows",
        description="Find frequent words of queries, titles and product names whose pictures agree "
        "no more than random ones and that no other word explains. A proposal: look at the sheet, "
        "and put what is noise into a list for text_rules.noise_topic_lists.",
    )
    noise.add_argument("shards", metavar="SHARDS", help="a folder, glob or URL of shards")
    noise.add_argument(
        "--embeddings", type=Path, metavar="FOLDER", help="of the pictures, as kmm embed writes"
    )
    noise.add_argument("--model", metavar="PATH", help="computes them, if there are none")
    noise.add_argument(
        "--similarity",
        action="store_true",
        help="with --model: weigh by how near a word's own vector is to its pictures",
    )
    noise.add_argument("--output", type=Path, required=True, metavar="FILE.tsv")
    noise.add_argument("--sheet", type=Path, metavar="FILE.html", help="pictures of each word")
    for name, default, what in (
        ("least-count", 100, "pictures that a word stands beside, at least"),
        ("most", 200, "proposals, at most"),
        ("most-words", 50_000, "words judged, the most frequent; bounds the memory"),
    ):
        noise.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{what} (%(default)s)"
        )
    for name, what in (
        ("noise-topic", "more words that are known as noise"),
        ("allow", "words that were judged and are none"),
    ):
        noise.add_argument(
            f"--{name}-list",
            dest=f"{name.replace('-', '_')}_lists",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help=f"{what}, one a line",
        )
    noise.set_defaults(run=_noise_words)


def _noise_words(arguments: argparse.Namespace) -> int:
    from kmm_jax.corpus.noise.propose import propose
    from kmm_jax.corpus.noise.report import write_page, write_table
    from kmm_jax.corpus.noise.stream import Shards

    vectors, embed_text = _vectors(arguments)
    shards = Shards(arguments.shards)
    found = propose(
        shards,
        vectors,
        least_count=arguments.least_count,
        most=arguments.most,
        most_words=arguments.most_words,
        is_known=_known(arguments),
        embed_text=embed_text,
        progress=_lines(),
    )
    write_table(arguments.output, found)
    if arguments.sheet is not None:
        write_page(arguments.sheet, found, shards.shards)
    without = f", {found.without_vector:,} without a vector" if found.without_vector else ""
    bad = f", {found.bad:,} bad rows" if found.bad else ""
    print(
        f"{arguments.output}: {len(found.words_found):,} proposals among {found.words:,} words of "
        f"{found.pictures:,} pictures{without}{bad}"
    )
    if found.missed_below:
        print(
            f"warning: words of {found.missed_below:,} pictures or fewer may have been missed; "
            "raise --most-words to judge them",
            file=sys.stderr,
        )
    if found.words_found:
        example = f"|{found.words_found[0].word}|"
        print(
            f"to use those that are noise, write them into a list, a line such as {example} for "
            "each, and:\n  kmm corpus build CONFIG --output FOLDER "
            "text_rules.noise_topic_lists=LIST.txt"
        )
    return 0


def _vectors(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Where the pictures' vectors come from, and what embeds words, if anything."""
    from kmm_jax.corpus.noise.vectors import ModelVectors, StoredVectors

    if arguments.embeddings is None and arguments.model is None:
        raise UserError("the pictures' vectors: --embeddings FOLDER, or --model PATH")
    if arguments.similarity and arguments.model is None:
        raise UserError("--similarity needs the model that the embeddings are of: --model PATH")
    stored = None if arguments.embeddings is None else StoredVectors(arguments.embeddings)
    if stored is not None and not arguments.similarity:
        return stored, None
    from kmm_jax.inference import load

    model = load(arguments.model)
    if stored is not None and stored.model_hash != model.hash:
        raise UserError(
            f"{arguments.embeddings} is of another model: its hash is {stored.model_hash!r}, that "
            f"of {arguments.model} {model.hash!r}; their vectors cannot be compared"
        )
    return stored or ModelVectors(model), model.embed_text if arguments.similarity else None


def _known(arguments: argparse.Namespace) -> Callable[[str], bool]:
    """Whether a word is found by the lists, or was judged to be no noise."""
    from kmm_jax.corpus.text import TextRules
    from kmm_jax.corpus.text.words import Words, read_list

    words = Words(TextRules(noise_topic_lists=tuple(arguments.noise_topic_lists)))
    judged = {
        entry.word for path in arguments.allow_lists for entry in read_list(path, "allow")
    }  # fmt: skip
    return lambda word: word in judged or next(words.find(word), None) is not None


def _lines() -> Callable[[str, int, int], None]:
    told = time.monotonic()

    def progress(name: str, done: int, rows: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            of = f" of {rows:,}" if rows else ""
            print(f"{name}: {done:,}{of} rows", file=sys.stderr, flush=True)

    return progress
