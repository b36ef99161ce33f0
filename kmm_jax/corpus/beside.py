"""What a source says beside a picture: texts and facts of a product, from its row to the record.

Between the stages it is JSON of a record's fields; captions and categories are lists in it.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kmm_jax.corpus.text import Cleaned, TextRules, clean_batch
from kmm_jax.corpus.text_samples import TextSamples
from kmm_jax.data.schema import validate_record
from kmm_jax.errors import DataError

if TYPE_CHECKING:
    from kmm_jax.corpus.config import Images, Products

_PROSE = ("title", "product_name", "caption")
_PRODUCT = ("product_name", "category", "attributes")
_FIELDS = (*_PROSE, "category", "attributes", "source")
_LISTS = ("caption", "category")


def columns(source: Images | Products) -> list[str]:
    """The columns that the source's fields are read from."""
    found: list[str] = []
    for field in _FIELDS:
        named = getattr(source, field)
        if isinstance(named, Mapping):
            found += named.values()
        elif isinstance(named, str):
            found.append(named)
        else:
            found += named or ()
    return list(dict.fromkeys(found))


def told(source: Images | Products, row: Mapping[str, Any]) -> str | None:
    """What the row says in the source's columns, as JSON; None where it says nothing.

    Nothing is judged yet. Empty cells and numbers that are none (NaN) count as absent.
    """
    record: dict[str, Any] = {}
    for field in _FIELDS:
        named = getattr(source, field)
        if named is None:
            continue
        if isinstance(named, Mapping):
            value: Any = {name: row.get(column) for name, column in named.items()}
        elif isinstance(named, str):
            value = row.get(named)
        else:
            value = [row.get(column) for column in named]
        value = _plain(_object(value) if field == "attributes" else value)
        if value is not None:
            record[field] = value if field == "attributes" else _texts(field, value)
    return _dumps(record)


def cleaned(
    told: Sequence[str | None],
    rules: TextRules,
    counts: collections.Counter[str],
    samples: TextSamples,
) -> list[str | None]:
    """The same with every text judged: rejected ones have left, masks are in.

    Categories and attributes, their names as well, are words and numbers of a catalogue (XL, 100%),
    so the share of symbols in them says nothing; all other rules hold. ``source`` is not judged.

    Args:
        counts: of texts, by what became of them; a field of the wrong type is one ``malformed``.
        samples: is offered what something was found in.
    """
    records = [_valid(json.loads(one), counts) if one else {} for one in told]
    prose = {text for record in records for field in _PROSE for text in _list(record.get(field))}
    words = {word for record in records for word in _words(record)}
    verdicts = _verdicts(prose, rules)
    of_words = _verdicts(words, dataclasses.replace(rules, symbols="off"))
    for text, found in (*verdicts.items(), *of_words.items()):
        samples.offer(text, found)
    return [_dumps(_kept(record, verdicts, of_words, counts)) for record in records]


def fate(found: Cleaned) -> str:
    """The reason why a text leaves, or ``kept``; without a letter it leaves whatever the rules."""
    return found.rejected_for or ("kept" if found.text else "empty")


def titles(told: Sequence[str | None]) -> list[str]:
    """The titles among what was said."""
    return [record["title"] for record in _loaded(told) if "title" in record]


def merged(told: Sequence[str | None], captions: int) -> str | None:
    """What was said of one picture in several places as one; its titles are left out.

    The product (name, category, attributes) is that of the first place that knows one, whole, so
    that no two products are mixed; ``source`` is the first one's that has it. Captions of all stand
    once each, the first ``captions`` of them.
    """
    records = _loaded(told)
    if not records:
        return None
    found: dict[str, Any] = {}
    if texts := [caption for record in records for caption in record.get("caption", ())]:
        found["caption"] = list(dict.fromkeys(texts))[:captions]
    product = next((record for record in records if set(_PRODUCT) & set(record)), {})
    found |= {field: product[field] for field in _PRODUCT if field in product}
    found |= next(({"source": one["source"]} for one in records if "source" in one), {})
    return _dumps(found)


def has_text(told: str | None) -> bool:
    """Whether a picture can stay with this alone."""
    return any("caption" in one or "product_name" in one for one in _loaded([told]))


def texts(told: str | None) -> tuple[list[str], list[str]]:
    """The name of the product (a list of one, or none) and the captions."""
    (record,) = _loaded([told]) or [{}]
    return _list(record.get("product_name")), _list(record.get("caption"))


def keeping(told: str | None, name: bool, captions: Sequence[bool]) -> str | None:
    """The same without the product's name, or some of the captions."""
    (record,) = _loaded([told]) or [{}]
    if not name:
        record = _without(record, "product_name")
    if "caption" in record:
        stay = [text for text, keep in zip(record["caption"], captions, strict=True) if keep]
        record = {**record, "caption": stay} if stay else _without(record, "caption")
    return _dumps(record)


def _without(record: Mapping[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != field}


def fields(told: str | None) -> dict[str, Any]:
    """The fields of a shard's record."""
    return {
        field: value[0] if field in _LISTS and len(value) == 1 else value
        for record in _loaded([told])
        for field, value in record.items()
    }


def _loaded(told: Sequence[str | None]) -> list[dict[str, Any]]:
    return [json.loads(one) for one in told if one]


def _dumps(record: Mapping[str, Any]) -> str | None:
    return json.dumps(record, ensure_ascii=False) if record else None


def _object(value: Any) -> Any:
    """An object out of a cell: a map of Parquet is a list of pairs, in a text it is JSON."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):
        return dict(value)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _plain(value: Any) -> Any:
    """As JSON has it, without what is empty; None where nothing is left."""
    if isinstance(value, bytes):  # a text in a column that does not say so
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().strip() or None
    if isinstance(value, Mapping):
        pairs = ((_plain(str(name)), _plain(one)) for name, one in value.items())
        return {name: one for name, one in pairs if name and one is not None} or None
    if isinstance(value, list | tuple):
        return [one for one in map(_plain, value) if one is not None] or None
    if value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float) else str(value)  # dates and the like


def _texts(field: str, value: Any) -> Any:
    """Numbers as texts, and a list where the field is one."""
    if isinstance(value, bool | int | float):
        value = str(value)
    if field not in _LISTS:
        return value
    value = value if isinstance(value, list) else [value]
    flat = [part for one in value for part in (one if isinstance(one, list) else [one])]
    return [str(part) if isinstance(part, bool | int | float) else part for part in flat]


def _valid(record: dict[str, Any], counts: collections.Counter[str]) -> dict[str, Any]:
    """The record without the fields that the schema refuses."""
    if _is_valid(record):
        return record
    good = {field: value for field, value in record.items() if _is_valid({field: value})}
    counts["malformed"] += len(record) - len(good)
    return good


def _is_valid(record: Mapping[str, Any]) -> bool:
    try:
        validate_record({"image_hash": "-", "query": ["-"], **record})
    except DataError:
        return False
    return True


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _words(record: Mapping[str, Any]) -> Iterator[str]:
    yield from record.get("category", ())
    for name, value in record.get("attributes", {}).items():
        yield name
        yield from map(str, _list(value))


def _verdicts(texts: set[str], rules: TextRules) -> dict[str, Cleaned]:
    ordered = sorted(texts)
    return dict(zip(ordered, clean_batch(ordered, rules), strict=True))


def _kept(
    record: Mapping[str, Any],
    verdicts: Mapping[str, Cleaned],
    of_words: Mapping[str, Cleaned],
    counts: collections.Counter[str],
) -> dict[str, Any]:
    new: dict[str, Any] = {}
    for field, value in record.items():
        if field == "source":
            new[field] = value
        elif field == "attributes":
            new[field] = _attributes(value, of_words, counts)
        else:
            found = [(verdicts if field in _PROSE else of_words)[text] for text in _list(value)]
            counts.update(map(fate, found))
            texts = [one.text for one in found if fate(one) == "kept"]
            new[field] = texts if field in _LISTS else "".join(texts)
    return {field: value for field, value in new.items() if value}


def _attributes(
    attributes: Mapping[str, Any], of_words: Mapping[str, Cleaned], counts: collections.Counter[str]
) -> dict[str, Any]:
    """An attribute whose name is rejected leaves with its values, which are what is counted."""
    kept: dict[str, Any] = {}
    for name, value in attributes.items():
        named, values = of_words[name], []
        for one in _list(value):
            found = of_words[str(one)]
            reason = fate(named) if fate(named) != "kept" else fate(found)
            counts[reason] += 1
            if reason == "kept":
                masked = isinstance(one, str) or found.decision == "mask"
                values.append(found.text if masked else one)
        if values:
            kept[named.text] = values if isinstance(value, list) else values[0]
    return kept
