"""What is wrong with a set of rows, found by reading and decoding every one of them."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kmm_jax.data.bad_rows import BadRowError
from kmm_jax.data.images import open_rgb
from kmm_jax.data.schema import texts
from kmm_jax.data.sources import Row, Source
from kmm_jax.errors import DataError
from kmm_jax.text.styles import Style, style_of

_BLOCK = 256
_SHOWN = 20


class TruncationTest(Protocol):
    """What the check needs of a tokenizer."""

    def truncates(self, text: str, style: Style | None, length: int, /) -> bool:
        """Whether the sequence of ``text`` is cut at ``length`` tokens."""
        ...


@dataclass(kw_only=True)
class Report:
    """What :func:`check` found.

    ``bad`` counts rows by reason and ``bad_rows`` names the first of them; ``fields`` counts texts
    and ``truncated`` those that do not fit, by field (empty without a tokenizer). A row is a
    duplicate if its ``image_hash``, or its image's bytes, were seen before. ``sides`` holds the
    (width, height) of every decoded image and ``image_bytes`` the sizes of their files.
    """

    name: str
    rows: int
    bad: collections.Counter[str] = field(default_factory=collections.Counter)
    bad_rows: list[str] = field(default_factory=list)
    fields: collections.Counter[str] = field(default_factory=collections.Counter)
    truncated: collections.Counter[str] = field(default_factory=collections.Counter)
    duplicate_hashes: int = 0
    duplicate_images: int = 0
    sides: list[tuple[int, int]] = field(default_factory=list)
    image_bytes: list[int] = field(default_factory=list)

    @property
    def bad_share(self) -> float:
        """The share of rows that cannot be used."""
        return sum(self.bad.values()) / self.rows

    def summary(self, *, tokens: int | None) -> dict[str, Any]:
        """The report as JSON values; ``tokens`` is the length that truncation was tested at."""
        return {
            "name": self.name,
            "rows": self.rows,
            "bad_rows": sum(self.bad.values()),
            "bad_share": self.bad_share,
            "bad_reasons": dict(self.bad),
            "bad_examples": self.bad_rows,
            "duplicate_image_hash": self.duplicate_hashes,
            "duplicate_image_bytes": self.duplicate_images,
            "width": _spread([width for width, _ in self.sides]),
            "height": _spread([height for _, height in self.sides]),
            "image_bytes": _spread(self.image_bytes),
            "texts": dict(self.fields),
            "text_length": tokens,
            "truncated_share": {
                name: self.truncated[name] / count for name, count in self.fields.items()
            }
            if tokens is not None
            else None,
        }


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What one good row adds to the report."""

    row: Row
    digest: bytes
    size: tuple[int, int]
    texts: list[tuple[str, bool]]


def check(
    source: Source,
    *,
    tokenizer: TruncationTest | None = None,
    text_length: int = 64,
    threads: int = 2,
    progress: Callable[[int], None] = lambda rows: None,
) -> Report:
    """Read every row of ``source``, decode it whole, and report what is wrong.

    ``progress`` is called with the number of rows read so far. Memory grows with the rows, by a
    few hundred bytes each.
    """
    report = Report(name=source.name, rows=len(source))
    hashes: set[str] = set()
    digests: set[bytes] = set()

    def look(number: int) -> _Seen | DataError:
        try:
            return _look(source, number, tokenizer, text_length)
        except DataError as error:
            return error

    for number, seen in enumerate(_mapped(look, len(source), threads)):
        if isinstance(seen, DataError):
            report.bad[seen.reason if isinstance(seen, BadRowError) else "record"] += 1
            if len(report.bad_rows) < _SHOWN:
                report.bad_rows.append(f"row {number}: {seen}")
        else:
            _add(report, seen, hashes, digests)
        if (number + 1) % _BLOCK == 0:
            progress(number + 1)
    return report


def _look(source: Source, number: int, tokenizer: TruncationTest | None, text_length: int) -> _Seen:
    row = source.read(number)
    try:
        picture = open_rgb(row.image, min_side=1 << 30)
    except DataError as error:
        raise BadRowError("image", f"{row.key}: {error}", key=row.key) from error
    return _Seen(
        row=row,
        digest=hashlib.blake2b(row.image, digest_size=16).digest(),
        size=picture.size,
        texts=[
            (
                name,
                tokenizer is not None and tokenizer.truncates(text, style_of(name), text_length),
            )
            for name, text, _ in texts(row.record)
        ],
    )


def _add(report: Report, seen: _Seen, hashes: set[str], digests: set[bytes]) -> None:
    image_hash = seen.row.record["image_hash"]
    report.duplicate_hashes += image_hash in hashes
    report.duplicate_images += seen.digest in digests
    hashes.add(image_hash)
    digests.add(seen.digest)
    report.sides.append(seen.size)
    report.image_bytes.append(len(seen.row.image))
    for name, is_cut in seen.texts:
        report.fields[name] += 1
        report.truncated[name] += is_cut


def _mapped(
    look: Callable[[int], _Seen | DataError], total: int, threads: int
) -> Iterator[_Seen | DataError]:
    # In blocks: Executor.map would read the whole set ahead of the report.
    with ThreadPoolExecutor(threads, thread_name_prefix="kmm-check") as pool:
        for start in range(0, total, _BLOCK):
            yield from pool.map(look, range(start, min(start + _BLOCK, total)))


def _spread(values: list[int]) -> dict[str, float] | None:
    if not values:
        return None
    low, median, high = np.percentile(values, [0, 50, 100]).tolist()
    return {"min": low, "median": median, "max": high}
