"""The file of thumbnails to be labelled and of their labels: JSON lines, of two kinds.

A pick says which image a model chose of a document for a query; a label, which score of the slide's
rubric a rater gave to that image for that query, whatever models chose it. The last label of a
rater counts, and one without a score takes back the one before.

    {"kind": "pick", "model": "base", "query": "부산 여행", "document": "blog-17", "image": "9f2c",
     "path": "17-1.jpg", "similarity": 0.31, "shown": true, "title": "부산에서 이틀"}
    {"kind": "label", "query": "부산 여행", "document": "blog-17", "image": "9f2c",
     "rater": "김", "score": 4, "time": "2026-11-30T09:00:00+00:00"}
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from kmm_jax.errors import DataError
from kmm_jax.files import atomic_write

LEAST, MOST = 1, 5
"""The scores of the rubric."""

_LONGEST_LINE = 1 << 20  # bytes
_LONGEST_TEXT = 10_000
_LONGEST_NAME = 200
_LARGEST = 1e9  # similarity, of models that know no cosine


class Pair(NamedTuple):
    """A query and a document: what thumbnails are compared on.

    Attributes:
        query_image: path of the query's picture, empty where it has none.
    """

    query: str
    document: str
    query_image: str = ""


class Item(NamedTuple):
    """What is scored: an image of the pair's document, by its hash."""

    pair: Pair
    image: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pick:
    """What a model chose.

    Attributes:
        model: its name in tables.
        image, path: the image's hash and where it lies; empty where there was none to choose.
        similarity: of image and query; None where there is no image.
        shown: whether it is above the model's floor. What is not shown is labelled all the same,
            so that a floor can be found.
        title, excerpt: of the document, for raters.
    """

    model: str
    pair: Pair
    image: str = ""
    path: str = ""
    similarity: float | None = None
    shown: bool = False
    title: str = ""
    excerpt: str = ""

    @property
    def item(self) -> Item | None:
        """What is scored of it."""
        return Item(self.pair, self.image) if self.image else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """A rater's word; ``score`` None takes back what the rater said of the item."""

    item: Item
    rater: str
    score: int | None
    time: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """What a file holds, in its order.

    Attributes:
        torn: whether its last line was cut, as by a kill; that line counts for nothing.
    """

    picks: tuple[Pick, ...]
    labels: tuple[Label, ...]
    torn: bool = False


def to_line(row: Pick | Label) -> str:
    """A row as it stands in a file, without the line's end."""
    if isinstance(row, Pick):
        values = {"kind": "pick", "model": row.model, **_of_pair(row.pair)}
        values |= {name: getattr(row, name) for name in ("image", "path", "similarity", "shown")}
        values |= {name: getattr(row, name) for name in ("title", "excerpt")}
    else:
        values = {"kind": "label", **_of_pair(row.item.pair), "image": row.item.image}
        values |= {"rater": row.rater, "score": row.score, "time": row.time}
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def write_picks(path: str | os.PathLike[str], picks: Iterable[Pick]) -> None:
    """Write a file of picks, whole or not at all.

    Raises:
        DataError: a pick that could not be read again, such as one of a model without a name.
    """
    with atomic_write(path) as file:
        for each in picks:
            line = to_line(each).encode("utf-8", "surrogatepass")
            _row(line)
            file.write(line + b"\n")


def read_log(path: str | os.PathLike[str]) -> Log:
    """Read a file of picks and labels.

    Raises:
        DataError: no file, or a line that is neither; names it.
    """
    picks: list[Pick] = []
    labels: list[Label] = []
    torn = False
    for number, line, whole in _lines(Path(path)):
        try:
            row = _row(line)
        except DataError as error:
            if not whole:
                torn = True
                break
            raise DataError(f"{path}, line {number}: {error}") from error
        if isinstance(row, Pick):
            picks.append(row)
        else:
            labels.append(row)
    return Log(picks=tuple(picks), labels=tuple(labels), torn=torn)


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """The different pairs in a file of JSON lines with ``query``, ``document``, ``query_image``.

    A file of picks is one, so that a second model chooses on the pairs of the first.

    Raises:
        DataError: no file, no pair in it, or a line that is none; names it.
    """
    found: dict[Pair, None] = {}
    for number, line, _ in _lines(Path(path)):
        try:
            found[_pair(_values(line))] = None
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    if not found:
        raise DataError(f"{path} holds no pair of a query and a document")
    return list(found)


class LogWriter:
    """Appends rows to a file; each is on the disk when `append` returns.

    A line that a kill cut is removed when the file is opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab+", buffering=0)
        _mend(self._file)

    def append(self, rows: Iterable[Pick | Label]) -> None:
        """Write rows, all in one call of the system."""
        data = "".join(f"{to_line(row)}\n" for row in rows).encode("utf-8")
        before = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(before)  # no half of a line before the next one
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _mend(file: IO[bytes]) -> None:
    """Let the file end in a whole line: remove a cut one, end a whole one."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _LONGEST_LINE)
    file.seek(start)
    tail = file.read()
    if not tail or tail.endswith(b"\n"):
        return
    begin = tail.rfind(b"\n") + 1
    try:
        _row(tail[begin:])
    except DataError:
        file.truncate(start + begin)
    else:
        file.write(b"\n")


def _lines(path: Path) -> Iterable[tuple[int, bytes, bool]]:
    """Number, bytes and wholeness of each line that is not blank."""
    if not path.is_file():
        raise DataError(f"{path} is no file")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            if len(line) > _LONGEST_LINE:
                raise DataError(f"{path}, line {number} has more than {_LONGEST_LINE:,} bytes")
            if line.strip():
                yield number, line, line.endswith(b"\n")


def _row(line: bytes) -> Pick | Label:
    values = _values(line)
    kind = values.get("kind")
    if kind == "pick":
        return _pick(values)
    if kind == "label":
        return _label(values)
    raise DataError(f'kind is "pick" or "label", found {_shown(kind)}')


def _values(line: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"no JSON: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"expected an object, found {_shown(values)}")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _pair(values: Mapping[str, Any]) -> Pair:
    pair = Pair(
        query=_text(values, "query", _LONGEST_TEXT),
        document=_text(values, "document", _LONGEST_TEXT),
        query_image=_text(values, "query_image", _LONGEST_TEXT),
    )
    if not pair.document or not (pair.query.strip() or pair.query_image):
        raise DataError("a pair needs a document, and a query or a query_image")
    return pair


def _pick(values: Mapping[str, Any]) -> Pick:
    similarity = values.get("similarity")
    if similarity is not None and (
        isinstance(similarity, bool)
        or not isinstance(similarity, int | float)
        or not -_LARGEST <= similarity <= _LARGEST
    ):
        raise DataError(f"similarity is a number or null, found {_shown(similarity)}")
    shown = values.get("shown", False)
    if not isinstance(shown, bool):
        raise DataError(f"shown is true or false, found {_shown(shown)}")
    pick = Pick(
        model=_name(values, "model"),
        pair=_pair(values),
        image=_text(values, "image", _LONGEST_TEXT),
        path=_text(values, "path", _LONGEST_TEXT),
        similarity=None if similarity is None else float(similarity),
        shown=shown,
        title=_text(values, "title", _LONGEST_TEXT),
        excerpt=_text(values, "excerpt", _LONGEST_TEXT),
    )
    if bool(pick.image) != (pick.similarity is not None) or (shown and not pick.image):
        raise DataError("a pick with an image has its similarity, one without is not shown")
    return pick


def _label(values: Mapping[str, Any]) -> Label:
    score = values.get("score")
    if score is not None and (
        isinstance(score, bool) or not isinstance(score, int) or not LEAST <= score <= MOST
    ):
        raise DataError(f"score is a whole number from {LEAST} to {MOST}, found {_shown(score)}")
    image = _text(values, "image", _LONGEST_TEXT)
    if not image:
        raise DataError("a label needs an image")
    return Label(
        item=Item(_pair(values), image),
        rater=_name(values, "rater"),
        score=score,
        time=_text(values, "time", _LONGEST_NAME),
    )


def _name(values: Mapping[str, Any], name: str) -> str:
    text = _text(values, name, _LONGEST_NAME)
    if text != " ".join(text.split()) or not text or not text.isprintable():
        raise DataError(f"{name} is a name on one line, found {_shown(text)}")
    return text


def _text(values: Mapping[str, Any], name: str, most: int) -> str:
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{name} is a text, found {_shown(value)}")
    if len(value) > most:
        raise DataError(f"{name} has {len(value):,} characters; {most:,} will do")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise DataError(f"{name} holds half of a character (a lone surrogate)")
    return value


def _of_pair(pair: Pair) -> dict[str, Any]:
    values = {"query": pair.query, "document": pair.document}
    return values | ({"query_image": pair.query_image} if pair.query_image else {})


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
