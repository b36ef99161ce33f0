"""Lines of bytes in, JSON lines out, as many as came in and in their order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO, TextIO

from kmm_jax.corpus.text.clean import Cleaned, Cleaner

_CHUNK_BYTES = 1 << 18
LONGEST_LINE = 1 << 16
"""Bytes of a line that are judged; no title is longer, and what follows is dropped."""


def clean_lines(source: BinaryIO, sink: TextIO, cleaner: Cleaner) -> int:
    """Write one JSON object for each line of ``source``; returns how many.

    Memory is bounded: a chunk of lines is held, and of a line ``LONGEST_LINE`` bytes. What is not
    UTF-8 becomes U+FFFD, each a code point of the input; the line break is no part of a text.
    """
    count = 0
    for lines in _batches(source):
        for cleaned in cleaner.batch(lines):
            sink.write(as_json(cleaned) + "\n")
        sink.flush()
        count += len(lines)
    return count


def as_json(cleaned: Cleaned) -> str:
    """``{"text", "decision", "reasons", "spans"}`` in one line; Korean stays readable."""
    return json.dumps(
        {
            "text": cleaned.text,
            "decision": cleaned.decision,
            "reasons": cleaned.reasons,
            "spans": cleaned.spans,
        },
        ensure_ascii=False,
    )


def _batches(source: BinaryIO) -> Iterator[list[str]]:
    """The whole lines of every read: many from a file, and from a pipe what it holds by now."""
    rest = b""
    read = getattr(source, "read1", source.read)
    while chunk := read(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield [_text(line) for line in lines]
        rest = rest[: LONGEST_LINE + 1]
    if rest:
        yield [_text(rest)]


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r")[:LONGEST_LINE].decode("utf-8", "replace")
