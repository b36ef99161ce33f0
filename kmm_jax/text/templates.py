"""Sentences around a name: what a text encoder sees in zero-shot classification."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Literal

from kmm_jax.errors import ConfigError, UserError, nearest
from kmm_jax.text.particles import PARTICLES, with_particle

Language = Literal["ko", "en"]

_SLOT = re.compile(r"\{([A-Za-z_]+)(?::([^{}]+))?\}")


def fill(template: str, name: str) -> str:
    """``template`` with ``name`` in it: ``{name}``, or ``{name:을/를}`` with its particle.

    Raises:
        ConfigError: the template has no place for a name, an unknown place or an unknown particle.
    """
    check_template(template)
    return fill_slots(template, {"name": name})


def fill_slots(template: str, words: Mapping[str, str]) -> str:
    """``template`` with each ``{slot}`` or ``{slot:을/를}`` replaced by the word of that name.

    Raises:
        ConfigError: a slot without a word, or an unknown particle.
    """

    def word(slot: re.Match[str]) -> str:
        if slot[1] not in words:
            raise ConfigError(f"the template {template!r} asks for {slot[0]}, which has no word")
        return with_particle(words[slot[1]], slot[2]) if slot[2] else words[slot[1]]

    return _SLOT.sub(word, template)


def slots(template: str) -> frozenset[str]:
    """The names of the slots in ``template``."""
    return frozenset(slot[1] for slot in _SLOT.finditer(template))


def check_template(template: str) -> None:
    """Refuse a template that :func:`fill` could not fill.

    Raises:
        ConfigError: naming the template and what is wrong with it.
    """
    rest = _SLOT.sub("", template)
    if "name" not in slots(template):
        raise ConfigError(f"the template {template!r} has no {{name}}")
    if slots(template) != {"name"} or "{" in rest or "}" in rest:
        raise ConfigError(
            f"the template {template!r} holds braces that are neither {{name}} nor {{name:을/를}}"
        )
    for slot in _SLOT.finditer(template):
        if slot[2] and slot[2] not in PARTICLES:
            raise ConfigError(
                f"the template {template!r} asks for the particle {slot[2]!r}"
                f"{nearest(slot[2], PARTICLES)}"
            )


def kinds() -> tuple[str, ...]:
    """The kinds of templates: ``photo`` for things, ``anything`` also for drawings, and so on."""
    return tuple(_all()["ko"])


def templates(lang: Language, kind: str) -> tuple[str, ...]:
    """The templates of one kind in one language, to be filled by :func:`fill`.

    Raises:
        UserError: no such language or kind.
    """
    if lang not in _all():
        raise UserError(f"no templates in {lang!r}{nearest(lang, _all())}")
    if kind not in _all()[lang]:
        raise UserError(f"no templates of the kind {kind!r}{nearest(kind, kinds())}")
    return _all()[lang][kind]


@cache
def _all() -> dict[str, dict[str, tuple[str, ...]]]:
    file = resources.files("kmm_jax.text").joinpath("templates.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    return {
        lang: {kind: tuple(lines) for kind, lines in of_kind.items()}
        for lang, of_kind in content.items()
    }
