"""What a document is, and how one is read.

{"id": "blog-17", "title": "부산 여행", "body": "...", "time": "2026-11-30T09:00:00+09:00",
 "source": "blog", "tags": {"region": "부산"},
 "images": [{"hash": "9f2c...", "path": "photos/17-1.jpg", "caption": "밀면"}]}
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kmm_jax.errors import DataError, nearest
from kmm_jax.text.normalize import normalize

_LONGEST_ID = 512
_LONGEST_TEXT = 1_000_000  # characters of a title or a body
_MOST_IMAGES = 1_000
_FIELDS = ("id", "title", "body", "images", "time", "source", "tags")
_IMAGE_FIELDS = ("hash", "path", "caption")
# What documents are filtered by beside tags.
RESERVED = ("id", "document", "source", "time")

Tag = str | int | float | bool | tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DocumentImage:
    """An image of a document.

    Attributes:
        hash: of its bytes; what a purge goes by.
        path: where it lies, as whoever serves it finds it.
        caption: a text beside it; may be empty.
    """

    hash: str
    path: str
    caption: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A document with texts and images.

    Attributes:
        id: names it, once and for all.
        title, body: normalised texts; the body may be empty.
        images: in the order in which they stand in it.
        time: when it was written, with its zone; None where that is not known.
        source: where it comes from, such as ``blog`` or ``shop``.
        tags: what is known of it, to filter by.
    """

    id: str
    title: str
    body: str = ""
    images: tuple[DocumentImage, ...] = ()
    time: datetime.datetime | None = None
    source: str = ""
    tags: Mapping[str, Tag] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """As `document` reads it."""
        values = dataclasses.asdict(self)
        values["time"] = self.time.isoformat() if self.time else None
        values["tags"] = dict(self.tags)
        return json.dumps(values, ensure_ascii=False)


def document(values: Any) -> Document:
    """A document of plain values, as JSON has them.

    Raises:
        DataError: something is missing, too long, or of another kind; says which and what it is.
    """
    if not isinstance(values, Mapping):
        raise DataError(f"a document is an object with id and title, found {_shown(values)}")
    _known(values, _FIELDS, "a document")
    id = _text(values, "id", least=1, most=_LONGEST_ID)
    if any(ord(character) < 32 for character in id):
        raise DataError(f"id {id!r} holds control characters")
    where = f"document {id!r}"
    images = values.get("images") or []
    if not isinstance(images, list | tuple) or len(images) > _MOST_IMAGES:
        raise DataError(f"{where}: images is a list of at most {_MOST_IMAGES:,}")
    return Document(
        id=id,
        title=normalize(_text(values, "title", where, most=_LONGEST_TEXT)),
        body=normalize(_text(values, "body", where, most=_LONGEST_TEXT, default="")),
        images=tuple(_image(each, f"{where}, image {n}") for n, each in enumerate(images)),
        time=_time(values.get("time"), where),
        source=_text(values, "source", where, most=_LONGEST_ID, default=""),
        tags=_tags(values.get("tags") or {}, where),
    )


def read_documents(path: Path) -> Iterator[Document]:
    """The documents in a file of JSON lines, one by one.

    Raises:
        DataError: a line that is no document; names it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield document(json.loads(line))
            except (ValueError, DataError) as error:
                raise DataError(f"{path}, line {number}: {error}") from error


def _image(values: Any, where: str) -> DocumentImage:
    if not isinstance(values, Mapping):
        raise DataError(f"{where} is an object with hash and path, found {_shown(values)}")
    _known(values, _IMAGE_FIELDS, where)
    hash = _text(values, "hash", where, least=1, most=_LONGEST_ID)
    if "/" in hash:
        raise DataError(f"{where}: a hash holds no '/', found {hash!r}")
    path = _text(values, "path", where, least=1, most=4_096)
    if "\0" in path:
        raise DataError(f"{where}: a path holds no NUL, found {_shown(path)}")
    return DocumentImage(
        hash=hash,
        path=path,
        caption=normalize(_text(values, "caption", where, most=_LONGEST_TEXT, default="")),
    )


def _text(
    values: Mapping[str, Any],
    name: str,
    where: str = "a document",
    *,
    least: int = 0,
    most: int,
    default: str | None = None,
) -> str:
    value = values.get(name, default)
    if value is None:
        value = default
    if not isinstance(value, str):
        raise DataError(f"{where}: {name} is a text, found {_shown(value)}")
    if not least <= len(value) <= most:
        raise DataError(
            f"{where}: {name} has {len(value):,} characters; {least} to {most:,} will do"
        )
    return value


def _time(value: Any, where: str) -> datetime.datetime | None:
    if value is None:
        return None
    try:
        found = datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: time is like 2026-11-30T09:00:00+09:00, found {_shown(value)}"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _tags(values: Any, where: str) -> dict[str, Tag]:
    if not isinstance(values, Mapping):
        raise DataError(f"{where}: tags is an object, found {_shown(values)}")
    tags: dict[str, Tag] = {}
    for name, value in values.items():
        if not isinstance(name, str) or name in RESERVED:
            raise DataError(f"{where}: a tag cannot be called {name!r}")
        if value is None:
            continue
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            tags[name] = tuple(value)
        elif isinstance(value, str | int | float | bool):
            if not isinstance(value, str) and not abs(value) < 2**63:  # so is NaN
                raise DataError(f"{where}: tag {name!r} is no number of 64 bits: {_shown(value)}")
            tags[name] = value
        else:
            raise DataError(
                f"{where}: tag {name!r} is a text, a number, true, false or a list of texts, found "
                f"{_shown(value)}"
            )
    return tags


def _known(values: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in values:
        if name not in names:
            raise DataError(f"{where} has no {name!r}{nearest(str(name), names)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
