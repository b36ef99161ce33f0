"""Documents of the built-in shop: listings with photos of a garment, posts about outfits.

Everything is drawn anew and stands in no training data; a third of the garments are of combinations
that the shop's training split never shows.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from random import Random

from kmm_jax.data.shop.backgrounds import BACKGROUNDS
from kmm_jax.data.shop.combinations import garment
from kmm_jax.data.shop.dyes import INKS
from kmm_jax.data.shop.scene import Scene, paint
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY, Garment
from kmm_jax.demo.facts import Entry, Facts, Lexicon, Pictured, World

_MATERIALS = {
    "린넨": ("린넨", "마"),
    "데님": ("데님", "청"),
    "가죽": ("가죽", "레더"),
    "폴리에스테르": ("폴리에스테르", "폴리"),
    "울": ("울", "양모"),
}
_PARAPHRASES = {
    "민무늬": ("무늬 없는", "아무 무늬도 없는"),
    "줄무늬": ("줄이 있는", "줄이 그어진"),
    "체크무늬": ("바둑판처럼 된",),
    "도트무늬": ("점이 찍힌", "동그란 점이 있는"),
    "꽃무늬": ("꽃이 그려진", "꽃이 핀"),
    "별무늬": ("별이 그려진",),
    "하트무늬": ("하트가 그려진",),
    "지그재그무늬": ("삐뚤빼뚤한 선이 있는",),
}
_TOLD = ("material", "season")
_UNSEEN = 0.33
_POSTS = 0.3
_SECOND_COLOR = 0.2


def lexicon() -> Lexicon:
    """The words of the shop."""
    materials = sorted({each for kind in KINDS.values() for each in kind.materials})
    return Lexicon(
        words={
            "type": {kind.ko: (kind.ko, *kind.synonyms) for kind in KINDS.values()},
            "color": {each.ko: (each.ko, *each.synonyms) for each in COLOURS_BY_KEY.values()},
            "pattern": {each.ko: (each.ko, *each.synonyms) for each in PATTERNS_BY_KEY.values()},
            "material": {each: _MATERIALS.get(each, (each,)) for each in materials},
            "season": {each: (each,) for each in ("봄", "여름", "가을", "겨울")},
        },
        paraphrases={"pattern": _PARAPHRASES},
    )


def shop(*, documents: int, pictures: int, side: int, seed: int) -> World:
    """A world of so many documents.

    Args:
        pictures: to search with.
        side: of pictures, pixels.
    """
    return World(
        name="shop",
        lexicon=lexicon(),
        entries=_entries(documents, side, seed),
        pictures=[_picture(number, side, seed) for number in range(pictures)],
        visible=("type", "color", "pattern"),
        told=_TOLD,
    )


def _entries(count: int, side: int, seed: int) -> Iterator[Entry]:
    for number in range(count):
        rng = Random(f"demo/{seed}/document/{number}")
        yield (_post if rng.random() < _POSTS else _listing)(side, rng)


def _listing(side: int, rng: Random) -> Entry:
    first = _garment(rng)
    shown, facts = [first], [_facts(first, rng)]
    if rng.random() < _SECOND_COLOR:
        color = rng.choice([key for key in COLOURS_BY_KEY if key != first.colour])
        ink = None if first.ink is None else rng.choice(INKS[color])
        shown.append(dataclasses.replace(first, colour=color, ink=ink))
        facts.append({**facts[0], "color": COLOURS_BY_KEY[color].ko})
    photos = [_photo((one,), side, rng) for one in shown]
    photos += [_photo((first,), side, rng) for _ in range(rng.choice((0, 0, 1, 2)))]
    return Entry(things=tuple(facts), photos=tuple(photos), kind="listing")


def _post(side: int, rng: Random) -> Entry:
    kinds = rng.sample(sorted(KINDS), rng.choice((2, 2, 3)))
    worn = [_garment(rng, kind) for kind in kinds]
    photos = [_photo(tuple(worn), side, rng)]
    photos += [_photo((one,), side, rng) for one in worn if rng.random() < 0.4]
    facts = tuple(_facts(one, rng) for one in worn)
    return Entry(things=facts, photos=tuple(photos), kind="post")


def _picture(number: int, side: int, seed: int) -> Pictured:
    name = f"demo/{seed}/picture/{number}"
    rng = Random(name)
    one = _garment(rng)
    facts = {key: value for key, value in _facts(one, rng).items() if key not in _TOLD}
    return Pictured(facts=facts, photo=lambda: _photo((one,), side, Random(f"{name}/photo")))


def _garment(rng: Random, kind: str | None = None) -> Garment:
    kind = kind or rng.choice(sorted(KINDS))
    color = rng.choice(sorted(COLOURS_BY_KEY))
    return garment(kind, color, "test" if rng.random() < _UNSEEN else "train", rng)


def _facts(one: Garment, rng: Random) -> Facts:
    kind = KINDS[one.kind]
    return {
        "type": kind.ko,
        "color": COLOURS_BY_KEY[one.colour].ko,
        "pattern": PATTERNS_BY_KEY[one.pattern].ko,
        "material": rng.choice(kind.materials),
        "season": rng.choice(kind.seasons),
    }


def _photo(garments: tuple[Garment, ...], side: int, rng: Random) -> bytes:
    scene = Scene(garments=garments, background=rng.choice(sorted(BACKGROUNDS)))
    buffer = io.BytesIO()
    paint(scene, side, rng).image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
