"""How one garment is called: nouns, colour words, pattern words, features, and phrases of them."""

from __future__ import annotations

from random import Random

from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY, Garment

# Shoppers shorten some values, and never mention others.
_SHORT = {"반소매": ("반소매", "반팔"), "긴소매": ("긴소매", "긴팔"), "민소매": ("민소매", "나시")}
_UNSAID = frozenset({"종류", "손잡이"})


def noun(garment: Garment, rng: Random) -> str:
    """A name of the type: mostly the usual one, else a synonym or the more exact kind."""
    kind = KINDS[garment.kind]
    others = [*kind.synonyms]
    if "종류" in garment.attributes:
        others.append(garment.attributes["종류"])
    return rng.choice(others) if others and rng.random() < 0.35 else kind.ko


def shade(garment: Garment, rng: Random) -> str:
    """A colour word that may stand before a noun: 빨간색, 빨간, 레드."""
    colour = COLOURS_BY_KEY[garment.colour]
    return colour.ko if rng.random() < 0.5 else rng.choice(colour.synonyms)


def loan(garment: Garment) -> str:
    """The colour as shops append it to a name: 레드, 네이비."""
    return COLOURS_BY_KEY[garment.colour].synonyms[-1]


def weave(garment: Garment, rng: Random) -> str:
    """A pattern word; empty, most of the time, for plain cloth."""
    if garment.pattern == "solid" and rng.random() < 0.7:
        return ""
    pattern = PATTERNS_BY_KEY[garment.pattern]
    return pattern.ko if rng.random() < 0.5 else rng.choice(pattern.synonyms)


def feature(garment: Garment, rng: Random) -> str:
    """A visible attribute as an attributive noun (반팔, 오버핏, 플리츠), or nothing to say."""
    values = [value for key, value in garment.attributes.items() if key not in _UNSAID]
    if not values:
        return ""
    value = rng.choice(values)
    return rng.choice(_SHORT.get(value, (value,)))


def phrase(*words: str) -> str:
    """The words that there are, spaced."""
    return " ".join(word for word in words if word)


def describe(garment: Garment, rng: Random) -> str:
    """The type with what else is said of it: 빨간색 체크무늬 반팔 셔츠, 체크 셔츠, or just 셔츠.

    People leave out what does not matter to them; texts that name the type alone are also what
    teaches a model the types, because colours cannot tell such pictures apart.
    """
    detail = feature(garment, rng) if rng.random() < 0.3 else ""
    colour = shade(garment, rng) if rng.random() < 0.6 else ""
    pattern = weave(garment, rng) if rng.random() < 0.7 else ""
    return phrase(colour, pattern, detail, noun(garment, rng))
