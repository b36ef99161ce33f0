"""Which labels a record says that its picture has.

A record states them under ``labels``, under ``attributes``, for each thing in the picture under
``items`` and ``boxes``: by the names of the group's fields, in any of a label's words.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kmm_jax.tagging.labels import LabelSet, word_places
from kmm_jax.text.normalize import normalize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stated:
    """What a record says.

    Attributes:
        true_C: of each label, whether it does.
        known_C: of each label, whether the record says anything of its group.
    """

    true_C: np.ndarray
    known_C: np.ndarray


class Reader:
    """Reads records by a label set.

    Attributes:
        unknown: what was found under the groups' fields and is no label, counted by group.
    """

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._places = [word_places(group) for group in labels.groups]
        self._fields = [{field.casefold() for field in group.fields} for group in labels.groups]
        self.unknown: dict[str, collections.Counter[str]] = {
            group.key: collections.Counter() for group in labels.groups
        }

    def read(self, record: Mapping[str, Any]) -> Stated:
        """What a record says of each label.

        A group with a word that is no label is not known, as the label that is true may be missing;
        nor is one of which nothing is said.
        """
        true_C = np.zeros(len(self._labels), bool)
        known_C = np.zeros(len(self._labels), bool)
        for group, places, fields, columns in zip(
            self._labels.groups, self._places, self._fields, self._labels.columns(), strict=True
        ):
            found, strange = set(), False
            for word in _words(record, fields):
                place = places.get(normalize(word).casefold())
                if place is None:
                    self.unknown[group.key][word] += 1
                    strange = True
                else:
                    found.add(place)
            usable = bool(found) and not strange and (group.several or len(found) == 1)
            if usable:
                true_C[[columns.start + place for place in found]] = True
                known_C[columns] = True
        return Stated(true_C=true_C, known_C=known_C)


def _words(record: Mapping[str, Any], fields: set[str]) -> Iterator[str]:
    """Every word that stands under one of the fields."""
    for place in _places(record):
        for name, value in place.items():
            if str(name).casefold() in fields:
                for word in value if isinstance(value, list | tuple) else [value]:
                    if word is not None and str(word).strip():
                        yield str(word)


def _places(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Where a record may state something."""
    for name in ("labels", "attributes"):
        if isinstance(found := record.get(name), Mapping):
            yield found
    for name in ("items", "boxes"):
        for thing in record.get(name) or ():
            if not isinstance(thing, Mapping):
                continue
            yield thing
            if isinstance(found := thing.get("attributes"), Mapping):
                yield found
