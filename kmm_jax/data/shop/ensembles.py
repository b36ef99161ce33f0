"""What is written about a picture of several garments: sets, outfits, things side by side."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from kmm_jax.data.shop.naming import noun, phrase, shade, weave
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY, Garment
from kmm_jax.data.shop.wording import Wording, counts, distinct, place
from kmm_jax.text.particles import with_particle

_NUMBER = {2: "두", 3: "세"}


def write_several(garments: Sequence[Garment], background: str, rng: Random) -> Wording:
    """All texts of a picture of two or three garments.

    Attributes are lists, in the order of the garments; the category is the first garment's.
    """
    queries = _queries(garments, rng)
    return Wording(
        title=_title(garments, rng),
        query=queries,
        query_count=counts(len(queries), rng),
        caption=_caption(garments, background, rng),
        product_name=_product_name(garments, rng),
        category=KINDS[garments[0].kind].category,
        attributes={
            "품목": [KINDS[garment.kind].ko for garment in garments],
            "색상": [COLOURS_BY_KEY[garment.colour].ko for garment in garments],
            "패턴": [PATTERNS_BY_KEY[garment.pattern].ko for garment in garments],
        },
    )


def _names(garments: Sequence[Garment], rng: Random) -> list[str]:
    """Colour, pattern and type of each."""
    return [phrase(shade(g, rng), weave(g, rng), noun(g, rng)) for g in garments]


def _together(names: Sequence[str], rng: Random) -> str:
    """A, B와 C; or A와 B와 C in a row."""
    *most, last = names
    if len(most) == 1 or rng.random() < 0.6:
        return ", ".join([*most[:-1], f"{with_particle(most[-1], '과/와')} {last}"])
    return " ".join([*(with_particle(name, "과/와") for name in most), last])


def _product_name(garments: Sequence[Garment], rng: Random) -> str:
    names = _names(garments, rng)
    return rng.choice(
        (
            " + ".join(names) + " 세트",
            "[세트] " + ", ".join(names),
            "[코디 세트] " + " & ".join(names),
            " / ".join(names) + f" {len(names)}종 세트",
        )
    )


def _queries(garments: Sequence[Garment], rng: Random) -> list[str]:
    names = _names(garments, rng)
    bare = [noun(garment, rng) for garment in garments]
    more = [
        " ".join(names[:2]) + " 코디",
        " ".join(bare) + " 세트",
        phrase(shade(garments[0], rng), bare[0], bare[1], "코디"),
        rng.choice(names),
        " ".join(names),
    ]
    return distinct([" ".join(names[:2]), *rng.sample(more, rng.randint(0, 3))])


def _title(garments: Sequence[Garment], rng: Random) -> str:
    whole = _together(_names(garments, rng), rng)
    return rng.choice(
        (
            f"오늘의 코디는 {whole}!",
            f"{whole} 같이 샀어요, 솔직 후기",
            f"{with_particle(whole, '을/를')} 함께 코디하는 법",
            f"이번 주 쇼핑 목록: {whole}",
            f"{with_particle(whole, '으로/로')} 완성하는 데일리룩",
            f"한꺼번에 주문한 {whole} 언박싱",
            f"{whole}, 어떻게 맞춰 입을까?",
        )
    )


def _caption(garments: Sequence[Garment], background: str, rng: Random) -> str:
    whole, where = _together(_names(garments, rng), rng), place(background, rng)
    number = _NUMBER[len(garments)]
    return rng.choice(
        (
            f"{where}에 {with_particle(whole, '이/가')} 놓여 있다.",
            f"{where}에 나란히 놓인 {whole}.",
            f"{with_particle(whole, '을/를')} {where}에서 함께 찍은 사진.",
            f"{where}에 {whole}, 모두 {number} 가지 상품이 보인다.",
            f"{with_particle(whole, '이/가')} {where}에 함께 있다.",
            f"{number} 가지 상품, {with_particle(whole, '을/를')} 찍은 사진입니다.",
        )
    )
