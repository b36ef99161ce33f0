"""What is written about a picture in English: captions and queries, beside the Korean ones."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from kmm_jax.data.shop.naming import phrase
from kmm_jax.data.shop.vocabulary import Garment

# Nouns by the key of the type; those of pairs are counted as such.
_NOUNS = {
    "tshirt": "t-shirt",
    "shirt": "shirt",
    "knit": "sweater",
    "hoodie": "hoodie",
    "jacket": "jacket",
    "coat": "coat",
    "vest": "vest",
    "dress": "dress",
    "skirt": "skirt",
    "hat": "hat",
    "handbag": "handbag",
    "backpack": "backpack",
    "scarf": "scarf",
    "tie": "tie",
    "umbrella": "umbrella",
}
_PAIRS = {
    "trousers": "trousers",
    "shorts": "shorts",
    "sneakers": "sneakers",
    "heels": "heels",
    "boots": "boots",
    "socks": "socks",
    "gloves": "gloves",
}
_COLOURS = {"skyblue": "light blue", "navy": "navy blue"}
_PATTERNS = {
    "solid": "plain",
    "stripe": "striped",
    "check": "checked",
    "dot": "polka dot",
    "floral": "floral",
    "star": "star print",
    "heart": "heart print",
    "zigzag": "zigzag",
}
_NUMBER = {2: "two", 3: "three"}


def caption(garments: Sequence[Garment], rng: Random) -> str:
    """A sentence or a phrase about what one sees."""
    whole = _together([_counted(garment, rng) for garment in garments])
    if len(garments) == 1:
        choices: tuple[str, ...] = (
            f"a photo of {whole}.",
            f"{whole} on display.",
            f"a product photo of {whole}.",
            f"the picture shows {whole}.",
            f"{whole} for sale.",
        )
    else:
        choices = (
            f"a photo of {whole}.",
            f"{whole} side by side.",
            f"the picture shows {_NUMBER[len(garments)]} things: {whole}.",
            f"{whole} in one picture.",
        )
    return rng.choice(choices)


def queries(garments: Sequence[Garment], rng: Random) -> list[str]:
    """What an English-speaking shopper types: one to three, each once."""
    if len(garments) > 1:
        names = [_named(garment, rng) for garment in garments]
        found = [" and ".join(names[:2]), " ".join(_noun(garment) for garment in garments)]
        return list(dict.fromkeys(found))
    (garment,) = garments
    colour, pattern, noun = _colour(garment), _pattern(garment, rng), _noun(garment)
    more = [phrase(colour, noun), phrase(pattern, noun), noun]
    return list(
        dict.fromkeys([phrase(colour, pattern, noun), *rng.sample(more, rng.randint(0, 2))])
    )


def _counted(garment: Garment, rng: Random) -> str:
    """A red striped shirt; a pair of red striped socks; an orange umbrella."""
    if garment.kind in _PAIRS:
        return f"a pair of {_named(garment, rng)}"
    name = _named(garment, rng)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _named(garment: Garment, rng: Random) -> str:
    """The noun with what else is said of it; people leave out what does not matter to them."""
    colour = _colour(garment) if rng.random() < 0.8 else ""
    pattern = _pattern(garment, rng) if rng.random() < 0.7 else ""
    return phrase(colour, pattern, _noun(garment))


def _noun(garment: Garment) -> str:
    return _NOUNS.get(garment.kind) or _PAIRS[garment.kind]


def _colour(garment: Garment) -> str:
    return _COLOURS.get(garment.colour, garment.colour)


def _pattern(garment: Garment, rng: Random) -> str:
    """A pattern word; empty, most of the time, for plain cloth."""
    if garment.pattern == "solid" and rng.random() < 0.7:
        return ""
    return _PATTERNS[garment.pattern]


def _together(names: Sequence[str]) -> str:
    """A; A and B; A, B and C."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
