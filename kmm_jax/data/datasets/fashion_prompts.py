"""Prompts in English and Korean that say the same about a product: its type, its colour and more.

They are what a Korean text encoder learns from to drive a generator that knows English: many
wordings of one thing. Sentences, and some pairings of a colour's word with a type's word, are held
out, so that it can be asked in words that it has not learned from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from random import Random
from typing import Literal

from kmm_jax.data.datasets import fashion_prompt_words as words
from kmm_jax.data.datasets.draws import pick
from kmm_jax.data.datasets.fashion_pairs import COLORS, TYPES
from kmm_jax.data.datasets.fashion_wording import Product, patterns
from kmm_jax.errors import UserError, nearest
from kmm_jax.text.classnames import class_set
from kmm_jax.text.normalize import normalize
from kmm_jax.text.templates import Language, fill_slots, slots

Wordings = Literal["training", "held_out"]

Forms = Mapping[str, tuple[str, ...]]
"""The words that a slot may have, the usual one first."""

TEMPLATES: Mapping[tuple[Language, Wordings], tuple[str, ...]] = {
    ("en", "training"): words.ENGLISH_TRAINING,
    ("en", "held_out"): words.ENGLISH_HELD_OUT,
    ("ko", "training"): words.KOREAN_TRAINING,
    ("ko", "held_out"): words.KOREAN_HELD_OUT,
}

_COLOR_SLOTS = frozenset("CADE")
_ATTRIBUTES = {
    "G": "gender",
    "F": "gender",
    "U": "usage",
    "V": "usage",
    "S": "season",
    "P": "pattern",
}
_KNOWN: Mapping[str, Mapping[str, object]] = {
    "gender": words.ENGLISH_GENDERS,
    "usage": words.ENGLISH_USAGES,
    "season": words.ENGLISH_SEASONS,
    "pattern": words.PATTERNS,
}
_PLAIN_SHARE = 0.5  # of the prompts, those that say nothing but type and colour


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a prompt may say, as the published table spells it; ``""`` where it says nothing.

    ``pattern`` is a Korean word of :func:`fashion_wording.patterns`.

    Raises:
        UserError: a type or a colour that has no words here.
    """

    type: str
    color: str
    gender: str = ""
    usage: str = ""
    season: str = ""
    pattern: str = ""

    def __post_init__(self) -> None:
        for value, known in ((self.type, TYPES), (self.color, COLORS)):
            if value not in known:
                raise UserError(
                    f"no prompts for {value!r}{nearest(value, known)}; there are: "
                    f"{', '.join(known)}"
                )

    @classmethod
    def of(cls, item: Product) -> Look:
        """That of a product; of several patterns in its name, the first."""
        return cls(
            type=item.type,
            color=item.color,
            gender=item.gender,
            usage=item.usage,
            season=item.season,
            pattern=next(iter(patterns(item.display_name)), ""),
        )


def draw_pair(rng: Random, look: Look, wordings: Wordings = "training") -> tuple[str, str]:
    """A Korean and an English prompt that say the same of ``look``; of the rest, nothing or some.

    Type and colour are always said.
    """
    said = _drawn_part(rng, look)
    return _drawn(rng, said, "ko", wordings), _drawn(rng, said, "en", wordings)


def draw(rng: Random, look: Look, language: Language, wordings: Wordings = "training") -> str:
    """A prompt in one language."""
    return _drawn(rng, _drawn_part(rng, look), language, wordings)


def plain(look: Look, language: Language) -> str:
    """The usual prompt: ``a photo of a red t-shirt``, 빨간 티셔츠의 사진."""
    template = "a photo of {a}{C} {T}" if language == "en" else "{A} {T}의 사진"
    forms = _forms(look, language)
    return _text(template, {slot: forms[slot][0] for slot in slots(template)})


def every_wording(look: Look, language: Language, wordings: Wordings) -> list[str]:
    """All prompts that :func:`draw` may give, each once."""
    texts = (
        _text(template, chosen | dict(zip(others, rest, strict=True)))
        for said in _parts(look)
        for template in _templates(language, wordings)[_attributes_of(said)]
        for forms in [_forms(said, language)]
        for chosen in _type_and_color(template, forms, wordings)
        for others in [sorted(slots(template) - chosen.keys())]
        for rest in product(*(forms[slot] for slot in others))
    )
    return list(dict.fromkeys(texts))


def _drawn_part(rng: Random, look: Look) -> Look:
    first, *more = _parts(look)
    return first if not more or rng.random() < _PLAIN_SHARE else pick(rng, more)


def _drawn(rng: Random, said: Look, language: Language, wordings: Wordings) -> str:
    template = pick(rng, _templates(language, wordings)[_attributes_of(said)])
    forms = _forms(said, language)
    chosen = pick(rng, list(_type_and_color(template, forms, wordings)))
    for slot in sorted(slots(template) - chosen.keys()):
        chosen[slot] = pick(rng, forms[slot])
    return _text(template, chosen)


def _parts(look: Look) -> list[Look]:
    """What may be said of ``look`` at once: type and colour first, then with more of it."""
    known = {
        name: value
        for name, sayable in _KNOWN.items()
        if (value := getattr(look, name)) in sayable
        and not {*value.split()} & {*look.type.split()}  # nobody says casual casual shoes
    }
    silent = Look(type=look.type, color=look.color)
    return [
        replace(silent, **{name: known[name] for name in attributes})
        for attributes in sorted(_templates("en", "training"), key=sorted)
        if attributes <= known.keys()
    ]


def _attributes_of(look: Look) -> frozenset[str]:
    return frozenset(name for name in _ATTRIBUTES.values() if getattr(look, name))


@cache
def _templates(language: Language, wordings: Wordings) -> Mapping[frozenset[str], tuple[str, ...]]:
    """The templates by the attributes that they say beside type and colour."""
    grouped: dict[frozenset[str], tuple[str, ...]] = {}
    for template in TEMPLATES[language, wordings]:
        said = frozenset(_ATTRIBUTES[slot] for slot in slots(template) & _ATTRIBUTES.keys())
        grouped[said] = (*grouped.get(said, ()), template)
    return grouped


def _type_and_color(template: str, forms: Forms, wordings: Wordings) -> Iterator[dict[str, str]]:
    """The words for type and colour that may stand together: in training not all of them do."""
    (slot,) = slots(template) & _COLOR_SLOTS
    for i, color in enumerate(forms[slot]):
        for j, type_ in enumerate(forms["T"]):
            if wordings == "held_out" or (i + j) % 4 != 3:
                yield {slot: color, "T": type_}


@cache
def _forms(look: Look, language: Language) -> Forms:
    forms = _english(look) if language == "en" else _korean(look)
    return {slot: several for slot, several in forms.items() if several}


def _english(look: Look) -> dict[str, tuple[str, ...]]:
    types = class_set("fashion_article_types")
    usual = types.en[types.index(look.type)].lower()
    adjectives, wearers = words.ENGLISH_GENDERS.get(look.gender, ((), ()))
    return {
        "T": (usual, *words.ENGLISH_TYPES[look.type]),
        "C": words.ENGLISH_COLORS.get(look.color, (look.color.lower(),)),
        "a": ("", "a pair of ") if look.type in words.PAIRED else ("a ",),
        "G": adjectives,
        "F": wearers,
        "U": words.ENGLISH_USAGES.get(look.usage, ()),
        "S": words.ENGLISH_SEASONS.get(look.season, ()),
        "P": words.PATTERNS.get(look.pattern, ((), ()))[0],
    }


def _korean(look: Look) -> dict[str, tuple[str, ...]]:
    before, noun, borrowed = words.KOREAN_COLORS[look.color]
    wearers = _names("fashion_genders", look.gender)
    usages = _names("fashion_usage", look.usage)
    return {
        "T": _names("fashion_article_types", look.type),
        "A": before,
        "D": noun,
        "E": (borrowed,),
        "K": (words.COUNTERS.get(look.type, "개"),),
        "G": wearers,
        "F": tuple(name if name.endswith("용") else f"{name}용" for name in wearers),
        "U": usages,
        "V": usages[:1],
        "S": _names("fashion_seasons", look.season),
        "P": (look.pattern, *words.PATTERNS[look.pattern][1]) if look.pattern else (),
    }


def _names(classes: str, key: str) -> tuple[str, ...]:
    """The Korean words for a class, the usual one first; none for ``""``."""
    if not key:
        return ()
    found = class_set(classes)
    place = found.index(key)
    return (found.ko[place], *found.synonyms[place])


def _text(template: str, chosen: Mapping[str, str]) -> str:
    text = fill_slots(template, chosen)
    return normalize(re.sub(r"\ba (?=[aeio])", "an ", text))
