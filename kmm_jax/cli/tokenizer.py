"""``kmm tokenizer``: train a tokenizer, extend one with Korean, look at what one does to a text."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import DataError, UserError

if TYPE_CHECKING:
    from kmm_jax.data.sources import Source

_INPUTS = (
    "text files (a line a text), TSV files with --column, .gz of either, "
    "or shards (a folder, a pattern, train-{000..012}.tar)"
)


def add(commands: Any) -> None:
    """Add ``kmm tokenizer`` with its actions."""
    group = commands.add_parser("tokenizer", help="train a tokenizer, extend one, look at one")
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")

    training = actions.add_parser(
        "train",
        help="train a byte-fallback tokenizer on texts",
        description="Train a byte-fallback BPE tokenizer; no text is ever unknown to it.",
    )
    training.add_argument("input", nargs="+", metavar="INPUT", help=_INPUTS)
    training.add_argument("--output", type=Path, required=True, metavar="DIR")
    training.add_argument("--vocab-size", type=int, default=8000, metavar="N")
    training.add_argument("--column", metavar="NAME", help="the column of TSV files to read")
    training.set_defaults(run=train)

    extending = actions.add_parser(
        "extend",
        help="add Korean tokens to the tokenizer of a CLIP or a Stable Diffusion",
        description="Append merges learned on the Hangul of the texts to those of a CLIP: the ids "
        "of all other text stay as they are. The folder written is a CLIPTokenizer's.",
    )
    extending.add_argument(
        "base",
        type=Path,
        metavar="BASE",
        help="a folder with tokenizer.json, or with vocab.json and merges.txt, or OpenAI's "
        "bpe_simple_vocab_16e6.txt.gz",
    )
    extending.add_argument("--texts", nargs="+", required=True, metavar="INPUT", help=_INPUTS)
    extending.add_argument("--new-tokens", type=int, required=True, metavar="N")
    extending.add_argument("--output", type=Path, required=True, metavar="DIR")
    extending.add_argument("--column", metavar="NAME", help="the column of TSV files to read")
    extending.add_argument(
        "--pad-token",
        metavar="TOKEN",
        help="what fills texts up (default: as BASE says; <|endoftext|>, as in Stable Diffusion 1, "
        "where BASE is OpenAI's file, which says nothing)",
    )
    extending.set_defaults(run=extend)

    showing = actions.add_parser("show", help="print the pieces and ids of a text")
    showing.add_argument("tokenizer", type=Path, metavar="DIR")
    showing.add_argument("text", metavar="TEXT")
    showing.set_defaults(run=show)


def train(arguments: argparse.Namespace) -> int:
    """Read every input, train, write the folder."""
    from kmm_jax.text.tokenizer import Tokenizer, check_replaceable

    check_replaceable(arguments.output)
    sources = [_texts(path, arguments.column) for path in arguments.input]
    started = time.monotonic()
    texts = _with_progress(text for source in sources for text in source)
    tokenizer = Tokenizer.train(texts, vocab_size=arguments.vocab_size)
    tokenizer.save(arguments.output)
    fewer = (
        f" (of {arguments.vocab_size} asked for: the texts hold no more)"
        if tokenizer.vocab_size < arguments.vocab_size
        else ""
    )
    print(
        f"{arguments.output}: {tokenizer.vocab_size} tokens{fewer}, "
        f"{time.monotonic() - started:.1f} s"
    )
    return 0


def extend(arguments: argparse.Namespace) -> int:
    """Read the base and every input, learn the merges, write the folder."""
    from kmm_jax.text import extension
    from kmm_jax.text.adopted import END, adopt, padded_with
    from kmm_jax.text.clip_bpe import save_clip_folder
    from kmm_jax.text.tokenizer import Tokenizer, check_replaceable

    check_replaceable(arguments.output)
    base = Tokenizer(adopt(arguments.base))
    says_nothing = arguments.base.name.endswith((".txt", ".txt.gz"))
    if pad := arguments.pad_token or (END if says_nothing else None):
        base = padded_with(base, pad)
    sources = [_texts(path, arguments.column) for path in arguments.texts]
    started = time.monotonic()
    texts = _with_progress(text for source in sources for text in source)
    extended = extension.extend(base, texts, new_tokens=arguments.new_tokens)
    save_clip_folder(extended, arguments.output)
    new = extended.vocab_size - base.vocab_size
    fewer = (
        f" (of {arguments.new_tokens} asked for: the texts hold no more)"
        if new < arguments.new_tokens
        else ""
    )
    print(
        f"{arguments.output}: {base.vocab_size} tokens and {new} new ones{fewer}, "
        f"{time.monotonic() - started:.1f} s"
    )
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print one line per piece; the space in front of a word is drawn as a bar."""
    from kmm_jax.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(arguments.tokenizer)
    ids, pieces = tokenizer.encode(arguments.text), tokenizer.pieces(arguments.text)
    for identity, piece in zip(ids, pieces, strict=True):
        print(f"{identity:>7}  {piece.replace(' ', '▁')}")
    print(f"{len(ids)} tokens; back to text: {tokenizer.decode(ids)}")
    return 0


def _texts(path: str, column_name: str | None) -> Iterator[str]:
    """The texts of one input; wrong shards and tables without --column are refused at once."""
    from kmm_jax.text import corpus

    if not corpus.is_text_file(path):
        return _row_texts(path)
    is_table = path.removesuffix(".gz").endswith(".tsv")
    if is_table and column_name is None:
        header = next(corpus.lines(Path(path)), "").split("\t")
        raise UserError(f"{path} is a table: name one with --column ({', '.join(header)})")
    if is_table and column_name is not None:
        return corpus.column(Path(path), column_name)
    return corpus.lines(Path(path))


def _row_texts(url: str) -> Iterator[str]:
    from kmm_jax.data.sources import open_source

    return _texts_of_rows(url, open_source(url))


def _texts_of_rows(url: str, source: Source) -> Iterator[str]:
    from kmm_jax.data.questions import questions
    from kmm_jax.data.schema import texts

    bad: list[str] = []
    for position in range(len(source)):
        try:
            row = source.read(position)
        except DataError as error:
            bad.append(str(error))
            continue
        for _, text, _ in texts(row.record):
            yield text
        for question in questions(row.record):
            yield question.question
            yield question.answer
    if bad:
        print(f"\n{url}: {len(bad)} bad rows left out, first: {bad[0]}", file=sys.stderr)


def _with_progress(texts: Iterable[str]) -> Iterator[str]:
    """Pass ``texts`` on and keep a line on the terminal up to date, twice a second."""
    live = sys.stderr.isatty()
    started = shown = time.monotonic()
    count = 0
    for count, text in enumerate(texts, start=1):
        yield text
        now = time.monotonic()
        if live and now - shown > 0.5:
            shown = now
            rate = count / (now - started)
            print(f"\rread {count:,} texts, {rate:,.0f}/s", end="", file=sys.stderr, flush=True)
    start = "\r" if live else ""
    print(f"{start}read {count:,} texts; learning the pieces ...", file=sys.stderr, flush=True)
