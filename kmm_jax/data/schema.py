"""The record of a row: the JSON beside each image, its fields and the texts in it (slide 2.3)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kmm_jax.errors import DataError
from kmm_jax.text.normalize import normalize

TEXT_FIELDS = (
    "title",
    "caption",
    "product_name",
    "attributes",
    "query",
    "caption_en",
    "query_en",
)
"""Where texts come from, in the order in which :func:`texts` lists them."""

QUESTIONS = "questions"
"""The field of questions about the image with their answers (``data/questions.py``)."""


def parse_record(raw: bytes) -> dict[str, Any]:
    """The validated record in the JSON bytes ``raw``; fields outside the schema are kept.

    Raises:
        DataError: not UTF-8, not JSON, not an object, or a field of the wrong type.
    """
    try:
        record = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"the record is not UTF-8 (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"the record is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"the record must be a JSON object, found {_kind(record)}")
    return validate_record(record)


def validate_record(record: dict[str, Any]) -> dict[str, Any]:
    """``record`` with the space around ``image_hash`` removed, once every field has its type.

    ``image_hash`` and one non-empty text, a question or an item are required; attributes alone do
    not count. A field that is null counts as absent.

    Raises:
        DataError: naming the field, what it must be and what was found.
    """
    image_hash = record.get("image_hash")
    if not isinstance(image_hash, str) or not image_hash.strip():
        raise DataError(f"image_hash must be a non-empty string, found {_shown(image_hash)}")
    for field, (is_valid, expected) in _TYPES.items():
        value = record.get(field)
        if value is not None and not is_valid(value):
            raise DataError(f"{field} must be {expected}, found {_shown(value)}")
    for field in ("query_count", "query_kelip_score"):
        values, queries = record.get(field), record.get("query") or []
        if values is not None and len(values) != len(queries):
            raise DataError(
                f"{field} must have one entry per query: {len(queries)} queries, "
                f"{len(values)} entries"
            )
    if not (record.get(QUESTIONS) or record.get("items")) and all(
        name == "attributes" for name, _, _ in _each_text(record)
    ):
        raise DataError("no text: title, caption, product_name and query are all empty")
    return {**record, "image_hash": image_hash.strip()}


def texts(record: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """The record's texts as (field, text, weight), empty ones left out.

    Weights are relative within one field: a query weighs its ``query_count`` (1 where there is no
    count, or where the counts are all 0). ``attributes`` become one text, ``색상 빨강, 패턴 체크``.
    """
    return list(_each_text(record))


def _each_text(record: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    for field in TEXT_FIELDS:
        value = record.get(field)
        if not value:
            continue
        if field == "attributes":
            value, weights = [_attributes_text(value)], [1.0]
        elif field == "query":
            weights = [float(count or 0) for count in record.get("query_count") or []]
            if sum(weights) <= 0:
                weights = [1.0] * len(value)
        else:
            value = [value] if isinstance(value, str) else value
            weights = [1.0] * len(value)
        for text, weight in zip(value, weights, strict=True):
            if weight > 0 and normalize(text):
                yield field, text, weight


def _attributes_text(attributes: Mapping[str, Any]) -> str:
    parts = []
    for key, value in attributes.items():
        values = value if isinstance(value, list) else [value]
        words = " ".join(str(word) for word in values if word not in (None, ""))
        if words:
            parts.append(f"{key} {words}")
    return ", ".join(parts)


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _list_of(is_item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(is_item(item) for item in value)


def _is_question(value: Any) -> bool:
    """Whether it says what is asked and answered, and of which kind, if it says so, as strings."""
    return isinstance(value, dict) and all(
        isinstance(part := value.get(name), str) and (normalize(part) or name in _OPTIONAL)
        for name in ("question", "answer", *(_OPTIONAL & value.keys()))
    )


_OPTIONAL = frozenset({"kind", "wording"})


def _is_count(value: Any) -> bool:
    return value is None or (_is_number(value) and value >= 0)


def _is_attributes(value: Any) -> bool:
    plain = (str, int, float)
    return isinstance(value, dict) and all(
        item is None
        or isinstance(item, plain)
        or (isinstance(item, list) and all(isinstance(part, plain) for part in item))
        for item in value.values()
    )


def _is_item(value: Any) -> bool:
    """Whether it is a thing with a category and attributes, if it has them, as a record's."""
    return isinstance(value, dict) and all(
        value.get(name) is None or _TYPES[name][0](value[name])
        for name in ("category", "attributes")
    )


def _is_size(value: Any) -> bool:
    return _list_of(_is_whole)(value) and len(value) == 2


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "image_url": (_is_string, "a string"),
    "image_size": (_is_size, "[width, height] in pixels"),
    "title": (_is_string, "a string"),
    "caption": (
        lambda v: _is_string(v) or _list_of(_is_string)(v),
        "a string or a list of strings",
    ),
    "product_name": (_is_string, "a string"),
    "category": (
        lambda v: _is_string(v) or _list_of(_is_string)(v),
        "a string or a list of strings",
    ),
    "attributes": (_is_attributes, "an object of values or lists of values"),
    "query": (_list_of(_is_string), "a list of strings"),
    "query_count": (_list_of(_is_count), "a list of counts"),
    "caption_en": (
        lambda v: _is_string(v) or _list_of(_is_string)(v),
        "a string or a list of strings",
    ),
    "query_en": (_list_of(_is_string), "a list of strings"),
    QUESTIONS: (
        _list_of(_is_question),
        'a list of {"question": ..., "answer": ...}, none of them empty',
    ),
    "items": (_list_of(_is_item), 'a list of {"category": ..., "attributes": {...}}'),
    "title_kelip_score": (_is_number, "a number or null"),
    "query_kelip_score": (
        _list_of(lambda v: v is None or _is_number(v)),
        "a list of numbers or nulls",
    ),
    "image_white_pixel_ratio": (_is_number, "a number or null"),
    "watermark_score": (_is_number, "a number or null"),
    "ocr_num_box": (_is_whole, "a whole number or null"),
    "ocr_ratio_box": (_is_number, "a number or null"),
    "boxes": (_list_of(lambda v: isinstance(v, dict | list)), "a list of boxes"),
    "source": (_is_string, "a string"),
}

FIELDS = ("image_hash", *_TYPES)
"""Every field that the schema gives a type."""


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _shown(value: Any) -> str:
    shown = repr(value)
    return f"{_kind(value)} {shown if len(shown) <= 60 else shown[:57] + '...'}"
