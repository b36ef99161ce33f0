"""Rows of the metadata of public sets of images: LAION, COYO-700M, WIT, Conceptual Captions.

The columns are those of
    laion  https://huggingface.co/datasets/laion/laion2B-multi-joined and laion2B-en-aesthetic
    coyo   https://huggingface.co/datasets/kakaobrain/coyo-700m (its README)
    wit    https://github.com/google-research-datasets/wit (DATA.md); TSV with quotes, as
           tensorflow_datasets reads it
    cc     https://github.com/google-research-datasets/conceptual-12m: TSV without a first line of
           names, URL and caption; of Conceptual Captions (3M) caption and URL. Or with the names
           that img2dataset's dataset_examples/cc3m.md puts there, or Parquet.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.corpus import text_tables
from kmm_jax.data.storage import open_stream
from kmm_jax.errors import DataError

NUMBERS = ("width", "height", "similarity", "unsafe", "watermark", "aesthetic")
"""What is kept of a row's numbers: pixels; CLIP similarity of picture and text; 0 to 1; 1 to 10."""


class Row(NamedTuple):
    """What is known of a picture: its texts, the best first, and what there is of ``NUMBERS``."""

    url: str
    texts: tuple[str, ...]
    language: str | None
    numbers: Mapping[str, float]


class Batch(NamedTuple):
    """Some rows: how many have no Hangul in any text, and the others; None for a malformed one."""

    without: int
    rows: list[Row | None]


class Format(NamedTuple):
    """In which columns something is; of several names the first that is there.

    ``sign`` is the column by which the format is told from those that come after it.
    """

    url: tuple[str, ...]
    texts: tuple[str, ...]
    sign: str
    numbers: Mapping[str, tuple[str, ...]]
    language: str | None = None


FORMATS = {
    "wit": Format(
        url=("image_url",),
        texts=(
            "caption_reference_description",
            "caption_alt_text_description",
            "caption_attribution_description",
        ),
        sign="caption_reference_description",
        numbers={"width": ("original_width",), "height": ("original_height",)},
        language="language",
    ),
    "coyo": Format(
        url=("url",),
        texts=("text",),
        sign="clip_similarity_vitb32",
        numbers={
            "width": ("width",),
            "height": ("height",),
            "similarity": ("clip_similarity_vitb32",),
            "unsafe": ("nsfw_score_opennsfw2",),
            "watermark": ("watermark_score",),
            "aesthetic": ("aesthetic_score_laion_v2",),
        },
    ),
    "laion": Format(
        url=("url",),
        texts=("text",),
        sign="text",
        numbers={
            "width": ("width",),
            "height": ("height",),
            "similarity": ("similarity",),
            "unsafe": ("punsafe",),
            "watermark": ("pwatermark",),
            "aesthetic": ("aesthetic", "aesthetic_score"),
        },
    ),
    "cc": Format(url=("url", "image_url"), texts=("caption",), sign="caption", numbers={}),
}
"""By name, in the order in which a file is compared with them; the case of letters is ignored."""

# The first bytes of Hangul in UTF-8: syllables, and the jamo that decomposed syllables begin with.
_HANGUL = re.compile(rb"[\xea-\xed]|\xe1[\x84-\x87]")
_URL = re.compile(r"(https?|ftp)://\S", re.IGNORECASE)
_ROWS = 8192


def read(file: str, name: str = "auto") -> tuple[str, Iterator[Batch]]:
    """The format's name and the rows of one file.

    Args:
        file: path or URL; ``.parquet``, or else lines with tabs, gzipped or not.
        name: of the format; ``auto`` takes the one whose columns the file has.

    Raises:
        DataError: its columns are not those of the format; says which they are.
    """
    if file.lower().endswith(".parquet"):
        with open_stream(file) as handle, _explained(file):
            schema = pq.read_schema(handle)
        found = _named(file, name, schema.names)
        return found, _parquet(file, FORMATS[found])
    first = next(text_tables.cells(file, separator="\t", quoted=False), None)
    if first is None:
        raise DataError(f"{file} is empty, or its first line is not UTF-8")
    if name in ("auto", "cc") and any(_URL.match(cell) for cell in first[:2]):
        return "cc", _pairs(file)
    found = _named(file, name, first)
    return found, _pairs(file, skip=1) if found == "cc" else _tsv(file, FORMATS[found])


def is_url(text: str) -> bool:
    """Whether a downloader can be sent there."""
    return _URL.match(text) is not None


def _named(file: str, name: str, columns: Sequence[str]) -> str:
    there = {column.lower() for column in columns}
    for one in FORMATS if name == "auto" else (name,):
        form = FORMATS[one]
        signed = name != "auto" or form.sign in there
        if signed and form.texts[0] in there and there.intersection(form.url):
            return one
    shown = ", ".join(columns[:30])[:500]
    if name == "auto":
        raise DataError(f"{file} is not of {', '.join(FORMATS)}; its columns are {shown}")
    needed = f"{' or '.join(FORMATS[name].url)} and {FORMATS[name].texts[0]}"
    raise DataError(f"{file} is not of {name}: it needs columns {needed}, and has {shown}")


def _places(form: Format, columns: Sequence[str]) -> dict[str, str]:
    """What is wanted -> the column it is in."""
    by_lower = {column.lower(): column for column in reversed(columns)}
    wanted = {"url": form.url, **form.numbers}
    wanted |= {f"text{place}": (text,) for place, text in enumerate(form.texts)}
    if form.language:
        wanted["language"] = (form.language,)
    found = {}
    for name, names in wanted.items():
        if there := [by_lower[column] for column in names if column in by_lower]:
            found[name] = there[0]
    return found


def _parquet(file: str, form: Format) -> Iterator[Batch]:
    with open_stream(file) as handle, _explained(file):
        table = pq.ParquetFile(handle)
        places = _places(form, table.schema_arrow.names)
        texts = [name for name in places if name.startswith("text")]
        for batch in table.iter_batches(_ROWS, columns=list(dict.fromkeys(places.values()))):
            # As bytes: one cell that is no UTF-8 is one row, not the whole batch.
            of_bytes = {
                name: _bytes(file, column, batch.column(column))
                for name, column in places.items()
                if name not in NUMBERS
            }
            cells = [of_bytes[name].to_pylist() for name in texts]
            some = [
                row
                for row, values in enumerate(zip(*cells, strict=True))
                if any(value is not None and _HANGUL.search(value) for value in values)
            ]
            taken = {name: column.take(pa.array(some)) for name, column in of_bytes.items()}
            taken |= {
                name: batch.column(column).take(pa.array(some))
                for name, column in places.items()
                if name in NUMBERS
            }
            values = {name: column.to_pylist() for name, column in taken.items()} if some else {}
            rows = [
                _row({name: column[place] for name, column in values.items()}, texts)
                for place in range(len(some))
            ]
            yield Batch(batch.num_rows - len(some), rows)


def _bytes(file: str, name: str, column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.binary())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.large_binary())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return column
    raise DataError(f"{file}: column {name} holds {kind}, texts were expected")


def _tsv(file: str, form: Format) -> Iterator[Batch]:
    lines = text_tables.cells(file, separator="\t", quoted=True)
    header = next(lines) or []
    where = {column: place for place, column in enumerate(header)}
    places = {name: where[column] for name, column in _places(form, header).items()}
    texts = [name for name in places if name.startswith("text")]
    while batch := list(itertools.islice(lines, _ROWS)):
        rows: list[Row | None] = []
        without = 0
        for line in batch:
            if line is None or len(line) != len(header):
                rows.append(None)
            elif any(_HANGUL.search(line[places[name]].encode()) for name in texts):
                rows.append(_row({name: line[place] for name, place in places.items()}, texts))
            else:
                without += 1
        yield Batch(without, rows)


def _pairs(file: str, skip: int = 0) -> Iterator[Batch]:
    """Lines of a URL and a caption, whichever comes first."""
    lines = itertools.islice(text_tables.cells(file, separator="\t", quoted=False), skip, None)
    while batch := list(itertools.islice(lines, _ROWS)):
        rows: list[Row | None] = []
        without = 0
        for line in batch:
            if line is None or len(line) < 2:
                rows.append(None)
                continue
            url, text = line[:2] if is_url(line[0]) else line[1::-1]
            if _HANGUL.search(text.encode()):
                rows.append(Row(url.strip(), (text,), None, {}))
            else:
                without += 1
        yield Batch(without, rows)


def _row(values: Mapping[str, Any], texts: Sequence[str]) -> Row | None:
    try:
        told = {
            name: value.decode() if isinstance(value, bytes) else value or ""
            for name, value in values.items()
            if name not in NUMBERS
        }
    except UnicodeDecodeError:
        return None
    numbers = {name: _number(values[name]) for name in NUMBERS if name in values}
    return Row(
        url=told["url"].strip(),
        texts=tuple(told[name] for name in texts if told[name]),
        language=told.get("language"),
        numbers={name: value for name, value in numbers.items() if value is not None},
    )


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


@contextlib.contextmanager
def _explained(file: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        said = " ".join(str(error).split())[:300]
        raise DataError(f"{file} cannot be read: {said}") from error
