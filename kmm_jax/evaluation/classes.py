"""The classes of a zero-shot task: their keys, names, synonyms and the sentences around a name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kmm_jax.errors import ConfigError, DataError, UserError, nearest
from kmm_jax.text.classnames import class_set, class_sets
from kmm_jax.text.templates import Language, check_template, fill, kinds, templates

_SHOP = ("shop_types", "shop_colours", "shop_patterns")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes:
    """Classes as a text encoder is asked about them.

    Attributes:
        name: of the set.
        keys: the labels as records have them.
        names: one name a class, side by side with ``keys``.
        templates: sentences for :func:`kmm_jax.text.templates.fill`; each class gets them all.
        synonyms: other words for each class, or empty; a caption may use them.

    Raises:
        ConfigError: no class, no template, a key or a name given twice, or lengths that differ.
    """

    name: str
    keys: tuple[str, ...]
    names: tuple[str, ...]
    templates: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.keys or not self.templates:
            missing = "class" if not self.keys else "template"
            raise ConfigError(f"the class set {self.name} has no {missing}; give at least one")
        for part, values in (("names", self.names), ("synonyms", self.synonyms)):
            if (values or part == "names") and len(values) != len(self.keys):
                raise ConfigError(
                    f"the class set {self.name} has {len(self.keys)} keys but {len(values)} {part}"
                )
        for part, words in (("key", self.keys), ("name", self.names)):
            if len(set(words)) < len(words):
                twice = next(word for word in words if words.count(word) > 1)
                raise ConfigError(
                    f"the class set {self.name} has the {part} {twice!r} twice; "
                    "two such classes cannot be told apart"
                )
        for template in self.templates:
            check_template(template)

    def __len__(self) -> int:
        return len(self.keys)

    def prompts(self) -> list[list[str]]:
        """Every template filled with every name: one list of texts per class."""
        return [[fill(template, name) for template in self.templates] for name in self.names]

    def words(self) -> list[tuple[str, ...]]:
        """The words that name each class: its name, then its synonyms."""
        synonyms = self.synonyms or ((),) * len(self)
        return [(name, *others) for name, others in zip(self.names, synonyms, strict=True)]

    def restricted_to(self, keys: Collection[str]) -> Classes:
        """Only the classes among ``keys``, in this set's order.

        Raises:
            ConfigError: none is left.
        """
        kept = [i for i, key in enumerate(self.keys) if key in keys]
        return dataclasses.replace(
            self,
            keys=tuple(self.keys[i] for i in kept),
            names=tuple(self.names[i] for i in kept),
            synonyms=tuple(self.synonyms[i] for i in kept) if self.synonyms else (),
        )


def named_classes(name: str, lang: Language = "ko") -> Classes:
    """The classes ``name`` stands for.

    ``name`` is a class set of the library (``kmm classnames``), one of ``shop_types``,
    ``shop_colours`` and ``shop_patterns`` (the built-in shop, Korean only), or a path to a
    ``.json`` file: ``{"classes": [[key, name, synonym...], ...]}`` with either ``"templates"``,
    a list of sentences, or ``"kind"``, the kind of the library's own (``"fashion"``).

    Raises:
        UserError: no such set, or not in this language.
        DataError: the file is missing or of another form.
    """
    if name.endswith(".json"):
        return _from_file(Path(name), lang)
    if name in _SHOP:
        if lang != "ko":
            raise UserError(f"the class set {name} has Korean names only; leave --lang at ko")
        return _of_the_shop(name)
    known = (*class_sets(), *_SHOP)
    if name not in known:
        raise UserError(
            f"no class set {name!r}{nearest(name, known)}; a path to a .json file of classes "
            "is taken as well"
        )
    found = class_set(name)
    return Classes(
        name=name,
        keys=found.keys,
        names=found.names(lang),
        templates=templates(lang, found.kind),
        synonyms=found.synonyms if lang == "ko" else (),
    )


def _of_the_shop(name: str) -> Classes:
    from kmm_jax.data.shop import vocabulary

    rows: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "shop_types": (dict(vocabulary.KINDS), vocabulary.TEMPLATES),
        "shop_colours": (dict(vocabulary.COLOURS_BY_KEY), vocabulary.ADJECTIVE_TEMPLATES),
        "shop_patterns": (dict(vocabulary.PATTERNS_BY_KEY), vocabulary.ADJECTIVE_TEMPLATES),
    }
    things, sentences = rows[name]
    return Classes(
        name=name,
        keys=tuple(things),
        names=tuple(thing.ko for thing in things.values()),
        templates=tuple(sentences),
        synonyms=tuple(tuple(thing.synonyms) for thing in things.values()),
    )


def _from_file(path: Path, lang: Language) -> Classes:
    form = '{"classes": [[key, name, synonym...], ...], "templates": ["{name} 사진", ...]}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"the classes {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; expected {form}") from error
    rows = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) >= 2 and all(isinstance(word, str) for word in row)
        for row in rows
    ):
        raise DataError(f"{path} holds no classes; expected {form}")
    sentences = content.get("templates")
    if sentences is None and content.get("kind") in kinds():
        sentences = templates(lang, content["kind"])
    if not isinstance(sentences, list | tuple) or not all(isinstance(s, str) for s in sentences):
        raise DataError(
            f'{path} must have "templates", a list of sentences, or "kind", '
            f"one of {', '.join(kinds())}"
        )
    return Classes(
        name=path.stem,
        keys=tuple(row[0] for row in rows),
        names=tuple(row[1] for row in rows),
        templates=tuple(sentences),
        synonyms=tuple(tuple(row[2:]) for row in rows),
    )
