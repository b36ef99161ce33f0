"""Judged queries: what people ask, and which documents answer it how well.

JSON lines, a query each, as the qrels of TREC in one place with their topics. Grades are 0 and
more; a document that is not named is not relevant.

    {"id": "t-1", "text": "빨간 체크 셔츠", "grades": {"shop-17": 3, "blog-4": 1}}
    {"id": "i-1", "image": "queries/1.jpg", "grades": {"shop-3": 3}}
    {"id": "b-1", "text": "파란색", "image": "queries/2.jpg", "text_weight": 0.6, "grades": {...}}
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from kmm_jax.errors import DataError, nearest
from kmm_jax.files import atomic_write
from kmm_jax.search.document_view import Query
from kmm_jax.search.learned_fusion import Kind, kind_of
from kmm_jax.text.normalize import normalize

_FIELDS = ("id", "text", "image", "like", "text_weight", "grades", "about")
_LONGEST = 10_000
_LARGEST_GRADE = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedQuery:
    """A query with the grades of documents.

    Attributes:
        id: names it.
        text: normalised; may be empty.
        image: path of its picture; empty where it has none.
        like: a document in the place of the picture.
        text_weight: of the text against the image.
        grades: of documents by their ids; those above 0 are relevant, at least one is.
        about: whatever else is known of it, such as what was asked for.
    """

    id: str
    text: str = ""
    image: str = ""
    like: str = ""
    text_weight: float = 0.5
    grades: Mapping[str, float]
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What it asks with."""
        return kind_of(text=bool(self.text), image=bool(self.image or self.like))

    @property
    def relevant(self) -> dict[str, float]:
        """The grades above 0."""
        return {id: grade for id, grade in self.grades.items() if grade > 0}

    def query(self, open_picture: Callable[[str], Image.Image]) -> Query:
        """As it is searched with.

        Raises:
            DataError: the picture cannot be had.
            OSError: the same.
        """
        image = open_picture(self.image) if self.image else None
        return Query(text=self.text, image=image, like=self.like, text_weight=self.text_weight)

    def to_json(self) -> str:
        """As `read_judgements` reads it, on one line."""
        values = {name: getattr(self, name) for name in _FIELDS}
        kept = {name: value for name, value in values.items() if value or name in ("id", "grades")}
        if self.text_weight != 0.5:
            kept["text_weight"] = self.text_weight
        else:
            kept.pop("text_weight", None)
        return json.dumps(kept, ensure_ascii=False, allow_nan=False)


def write_judgements(path: str | os.PathLike[str], queries: Iterable[JudgedQuery]) -> None:
    """Write a file of judged queries, whole or not at all."""
    with atomic_write(path, "w") as file:
        for each in queries:
            file.write(each.to_json() + "\n")


def read_judgements(path: str | os.PathLike[str]) -> list[JudgedQuery]:
    """The judged queries of a file.

    Raises:
        DataError: no file, none in it, or a line that is none; names it.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is no file; judged queries are JSON lines, a query each")
    found: dict[str, JudgedQuery] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                one = _judged(json.loads(line.decode("utf-8")))
                if one.id in found:
                    raise DataError(f"the id {one.id!r} stands twice")
            except (ValueError, RecursionError, DataError) as error:
                raise DataError(f"{path}, line {number}: {error}") from error
            found[one.id] = one
    if not found:
        raise DataError(f"{path} holds no judged query")
    return list(found.values())


def _judged(values: Any) -> JudgedQuery:
    if not isinstance(values, dict):
        raise DataError(f"a judged query is an object with id and grades, found {_shown(values)}")
    for name in values:
        if name not in _FIELDS:
            raise DataError(f"a judged query has no {name!r}{nearest(str(name), _FIELDS)}")
    id = _text(values, "id")
    if not id:
        raise DataError("a judged query needs an id")
    weight = values.get("text_weight", 0.5)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise DataError(f"text_weight is a number from 0 to 1, found {_shown(weight)}")
    about = values.get("about", {})
    if not isinstance(about, dict):
        raise DataError(f"about is an object, found {_shown(about)}")
    found = JudgedQuery(
        id=id,
        text=normalize(_text(values, "text")),
        image=_text(values, "image"),
        like=_text(values, "like"),
        text_weight=float(weight),
        grades=_grades(values.get("grades")),
        about=about,
    )
    if found.image and found.like:
        raise DataError("an image and a document to be like: give one of them")
    if not (found.text or found.image or found.like):
        raise DataError("nothing to search for: give a text, an image or both")
    return found


def _grades(values: Any) -> dict[str, float]:
    if not isinstance(values, dict):
        raise DataError(f'grades is an object such as {{"blog-17": 3}}, found {_shown(values)}')
    grades: dict[str, float] = {}
    for id, grade in values.items():
        if (
            isinstance(grade, bool)
            or not isinstance(grade, int | float)
            or not (math.isfinite(grade) and 0 <= grade <= _LARGEST_GRADE)
        ):
            raise DataError(
                f"the grade of {id!r} is a number from 0 to {_LARGEST_GRADE:.0f}, found "
                f"{_shown(grade)}"
            )
        grades[id] = grade
    if not any(grades.values()):
        raise DataError("no document has a grade above 0; leave such a query out")
    return grades


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name, "")
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise DataError(
            f"{name} is a text of at most {_LONGEST:,} characters, found {_shown(value)}"
        )
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
