"""Korean and English names of the classes of known data sets, for zero-shot classification.

The names were written for this project as a Korean shop would print them, and so that no two
classes of a set can be taken for one another: Myntra's ``Trunk`` is 드로즈 and ``Boxers`` is 트렁크
팬티, ``Khaki`` is the sand colour that English means, not the olive that 카키 alone says in Korea.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from kmm_jax.errors import UserError, nearest
from kmm_jax.text.templates import Language, fill, templates

__all__ = ["ClassSet", "class_set", "class_sets", "fill", "prompts", "templates"]


@dataclass(frozen=True, kw_only=True)
class ClassSet:
    """The classes of one set; ``keys``, ``ko``, ``en`` and ``synonyms`` run side by side."""

    name: str
    description: str
    kind: str
    """Which templates fit the names (``templates(lang, kind)``)."""
    keys: tuple[str, ...]
    """The labels as the data has them."""
    ko: tuple[str, ...]
    en: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    """Other Korean words for the class, as shoppers type them; may be empty."""

    def __len__(self) -> int:
        return len(self.keys)

    def names(self, lang: Language) -> tuple[str, ...]:
        """The names in one language."""
        if lang not in ("ko", "en"):
            raise UserError(f"no class names in {lang!r}{nearest(lang, ('ko', 'en'))}")
        return self.ko if lang == "ko" else self.en

    def index(self, key: str) -> int:
        """The position of the label ``key``.

        Raises:
            UserError: the set has no such label.
        """
        try:
            return self.keys.index(key)
        except ValueError:
            raise UserError(
                f"the class set {self.name} has no {key!r}{nearest(key, self.keys)}"
            ) from None


def class_sets() -> tuple[str, ...]:
    """The names of all class sets, sorted."""
    folder = resources.files("kmm_jax.text").joinpath("classnames")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


@cache
def class_set(name: str) -> ClassSet:
    """The class set ``name``, such as ``"cifar10"`` or ``"fashion_article_types"``.

    Raises:
        UserError: no such set.
    """
    if name not in class_sets():
        raise UserError(f"no class set {name!r}{nearest(name, class_sets())}")
    file = resources.files("kmm_jax.text").joinpath("classnames", f"{name}.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    rows = content["classes"]
    return ClassSet(
        name=name,
        description=content["description"],
        kind=content["kind"],
        keys=tuple(row[0] for row in rows),
        ko=tuple(row[1] for row in rows),
        en=tuple(row[2] for row in rows),
        synonyms=tuple(tuple(row[3:]) for row in rows),
    )


def prompts(classes: ClassSet, lang: Language) -> list[list[str]]:
    """Every template of the set's kind filled with every name: one list of texts per class."""
    return [
        [fill(template, name) for template in templates(lang, classes.kind)]
        for name in classes.names(lang)
    ]
