"""What pictures may be labelled with: groups of labels, with their names and prompts, as data.

{"format": "kmm_jax label set 1", "groups": [{"key": "color", "ko": "색상", "en": "colour",
  "several": true, "fields": ["color", "색상"], "templates": {"ko": ["{name} 옷"]},
  "labels": [{"key": "navy", "ko": "네이비색", "en": "navy", "words": ["남색", "Navy Blue"]}]}]}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from kmm_jax.errors import ConfigError, DataError, UserError, nearest
from kmm_jax.text.normalize import normalize
from kmm_jax.text.templates import Language, check_template, fill

FORMAT = "kmm_jax label set 1"

Naming = Literal["ko", "en", "key"]
"""Which of its names a label goes by."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """One label.

    Attributes:
        key: names it in files.
        ko, en: what people read, and what prompts say.
        words: others that records may call it by.
    """

    key: str
    ko: str
    en: str
    words: tuple[str, ...] = ()

    def name(self, naming: Naming) -> str:
        """One of its names."""
        return str(getattr(self, naming))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Labels that answer the same question, such as which colour.

    Attributes:
        key: of the group; what a document's tag is called.
        several: whether a picture may have more than one of them, or none.
        fields: under which of its names a record states one.
        templates: by language, sentences around a label's name for zero-shot tagging.
    """

    key: str
    ko: str
    en: str
    several: bool
    fields: tuple[str, ...]
    templates: Mapping[str, tuple[str, ...]]
    labels: tuple[Label, ...]

    def prompts(self, language: Language) -> list[list[str]]:
        """Every template filled with every label's name: one list of texts a label.

        Raises:
            UserError: no templates in this language.
        """
        if not self.templates.get(language):
            raise UserError(
                f"the group {self.key} has no prompts in {language!r}"
                + nearest(language, self.templates)
            )
        return [
            [fill(template, label.name(language)) for template in self.templates[language]]
            for label in self.labels
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelSet:
    """Groups of labels; the labels of all groups are numbered through, in their order.

    Raises:
        ConfigError: no group or no label, or a key or word that stands for two of them.
    """

    description: str
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        if not self.groups:
            raise ConfigError("a label set needs at least one group")
        _once([group.key for group in self.groups], "group", "label set")
        for group in self.groups:
            if len(group.labels) < 2 and not group.several:
                raise ConfigError(f"the group {group.key} needs two labels to choose between")
            if not group.labels:
                raise ConfigError(f"the group {group.key} has no label")
            for naming in ("key", "ko", "en"):
                names = [getattr(label, naming) for label in group.labels]
                _once(names, naming, f"group {group.key}")
            word_places(group)
            for texts in group.templates.values():
                for template in texts:
                    check_template(template)

    def __len__(self) -> int:
        return sum(len(group.labels) for group in self.groups)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels of all groups."""
        return tuple(label for group in self.groups for label in group.labels)

    def columns(self) -> list[slice]:
        """Which numbers the labels of each group have."""
        found, start = [], 0
        for group in self.groups:
            found.append(slice(start, start + len(group.labels)))
            start += len(group.labels)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `of_json` reads them."""
        return {"format": FORMAT, **dataclasses.asdict(self)}


def label_set(name: str) -> LabelSet:
    """A label set by its name, such as ``fashion``, or the path of a ``.json`` file.

    Raises:
        UserError: no such set.
        DataError: the file is missing, damaged or of another form.
        ConfigError: its labels contradict each other.
    """
    if name.endswith(".json"):
        path = Path(name)
        try:
            return of_json(json.loads(path.read_text("utf-8")), str(path))
        except OSError as error:
            raise DataError(f"the labels {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise DataError(f"{path} is not JSON: {error}") from error
    if name not in label_sets():
        raise UserError(
            f"no label set {name!r}{nearest(name, label_sets())}; a path to a .json file is taken "
            "as well"
        )
    file = resources.files("kmm_jax.tagging").joinpath("label_sets", f"{name}.json")
    return of_json(json.loads(file.read_text("utf-8")), name)


def label_sets() -> tuple[str, ...]:
    """The names of those that come along."""
    folder = resources.files("kmm_jax.tagging").joinpath("label_sets")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


def of_json(values: Any, where: str) -> LabelSet:
    """A label set of plain values.

    Raises:
        DataError: they are of another form; says where they are from.
        ConfigError: labels contradict each other.
    """
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        raise DataError(f"{where} is no label set: its format must be {FORMAT!r}")
    try:
        return LabelSet(
            description=_text(values.get("description", "")),
            groups=tuple(
                Group(
                    key=_text(group["key"]),
                    ko=_text(group["ko"]),
                    en=_text(group["en"]),
                    several=_flag(group["several"]),
                    fields=_texts(group["fields"]),
                    templates={
                        _text(language): _texts(texts)
                        for language, texts in group["templates"].items()
                    },
                    labels=tuple(
                        Label(
                            key=_text(label["key"]),
                            ko=_text(label["ko"]),
                            en=_text(label["en"]),
                            words=_texts(label.get("words", ())),
                        )
                        for label in group["labels"]
                    ),
                )
                for group in values["groups"]
            ),
        )
    except KeyError as error:
        raise DataError(f"{where}: a group or a label has no {error}") from error
    except (TypeError, AttributeError) as error:
        raise DataError(f"{where} is no label set: {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {value!r}")
    return normalize(value)


def _texts(values: Any) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, list | tuple):
        raise TypeError(f"expected a list of texts, found {values!r}")
    return tuple(_text(value) for value in values)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"several is true or false, found {value!r}")
    return value


def _once(names: list[str], what: str, where: str) -> None:
    for name in names:
        if not name:
            raise ConfigError(f"a {what} in the {where} is empty")
        if names.count(name) > 1:
            raise ConfigError(f"the {where} has the {what} {name!r} twice")


def word_places(group: Group) -> dict[str, int]:
    """Every word that a label of the group goes by, in lower case, to the label's place.

    Raises:
        ConfigError: one stands for two labels.
    """
    found: dict[str, int] = {}
    for place, label in enumerate(group.labels):
        for word in (label.key, label.ko, label.en, *label.words):
            if found.setdefault(word.casefold(), place) != place:
                raise ConfigError(
                    f"in the group {group.key} the word {word!r} stands for both "
                    f"{group.labels[found[word.casefold()]].key} and {label.key}"
                )
    return found
