"""One type for each tag: tags are columns of an index, and a column has one."""

from __future__ import annotations

from collections.abc import Mapping

from kmm_jax.errors import DataError
from kmm_jax.search.documents import Document, Tag


class TagTypes:
    """The types of tags, learnt from columns that are there and from documents as they come."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        """Begin with columns, by name, and their types as Arrow writes them."""
        self._types = {name: kind for name, each in columns.items() if (kind := _of_arrow(each))}
        self._from: dict[str, str] = {}

    def check(self, document: Document) -> None:
        """Take a document's tags in.

        Raises:
            DataError: one has another type than before; names document, tag and both types.
        """
        for name, value in document.tags.items():
            kind = _of_value(value)
            known = self._types.setdefault(name, kind)
            if known == kind:
                self._from.setdefault(name, document.id)
                continue
            first = self._from.get(name)
            where = f"in document {first!r}" if first else "in the documents that are there"
            raise DataError(
                f"document {document.id!r}: tag {name!r} is {kind} ({value!r}), {where} it is "
                f"{known}; a tag has one type: write it alike, or under another name"
            )


def _of_value(value: Tag) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a text" if isinstance(value, str) else "a list of texts"


def _of_arrow(kind: str) -> str | None:
    if "list" in kind:
        return "a list of texts"
    if "string" in kind:
        return "a text"
    if kind == "bool":
        return "true or false"
    return "a number" if kind.startswith(("int", "uint", "double", "float", "halffloat")) else None
