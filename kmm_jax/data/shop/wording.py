"""What a shop, a blogger and a shopper write about one garment, in Korean.

Product names are strings of nouns, queries are short, titles are those of blog posts, captions are
sentences about what one sees: the talk's four styles (slide 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from kmm_jax.data.shop.backgrounds import BACKGROUNDS
from kmm_jax.data.shop.naming import describe, feature, loan, noun, phrase, shade, weave
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY, Garment
from kmm_jax.text.particles import with_particle

_MOODS = ("데일리", "베이직", "심플", "캐주얼", "빈티지", "감성", "국내제작", "클래식", "모던")


@dataclass(frozen=True, kw_only=True)
class Wording:
    """The texts of one picture, under the names of a record's fields."""

    title: str
    query: list[str]
    query_count: list[int]
    caption: str
    product_name: str
    category: str
    attributes: dict[str, Any]


def write(garment: Garment, background: str, rng: Random) -> Wording:
    """All texts of a picture of one garment; ``background`` is the key of its background."""
    queries = _queries(garment, rng)
    return Wording(
        title=_title(garment, rng),
        query=queries,
        query_count=counts(len(queries), rng),
        caption=_caption(garment, background, rng),
        product_name=_product_name(garment, rng),
        category=KINDS[garment.kind].category,
        attributes=_attributes(garment, rng),
    )


def counts(number: int, rng: Random) -> list[int]:
    """How often each query was asked: few are frequent, most are rare."""
    return [int(min(rng.paretovariate(0.9), 500.0)) for _ in range(number)]


def distinct(texts: Sequence[str]) -> list[str]:
    """The texts without repetitions, in order."""
    return list(dict.fromkeys(texts))


def place(background: str, rng: Random) -> str:
    """A place noun that takes 에 or 에서."""
    return rng.choice(BACKGROUNDS[background].ko)


def _product_name(garment: Garment, rng: Random) -> str:
    kind = KINDS[garment.kind]
    mood = rng.choice(_MOODS) if rng.random() < 0.5 else ""
    detail = feature(garment, rng) if rng.random() < 0.6 else ""
    colour, pattern, name = shade(garment, rng), weave(garment, rng), noun(garment, rng)
    buyer = "여성" if "여성" in kind.category else rng.choice(("남녀공용", "남자", "여자"))
    season = rng.choice(kind.seasons)
    forms = (
        phrase(mood, detail, colour, pattern, name),
        phrase(mood, colour, pattern, detail, name),
        phrase(mood, pattern, detail, name, loan(garment)),
        phrase(f"[{season} 신상]", colour, pattern, detail, name),
        phrase(buyer, detail, colour, pattern, name),
        phrase(buyer, mood, pattern, name, f"({loan(garment)})"),
        phrase(season, colour, detail, pattern, name, "컬렉션"),
        phrase(mood, pattern, name, "-", COLOURS_BY_KEY[garment.colour].ko),
    )
    return rng.choice(forms)


def _queries(garment: Garment, rng: Random) -> list[str]:
    colour, pattern, name = shade(garment, rng), weave(garment, rng), noun(garment, rng)
    detail = feature(garment, rng)
    season = rng.choice(KINDS[garment.kind].seasons)
    wish = rng.choice(("추천", "코디", "브랜드", "쇼핑몰", "가격", "세일"))
    more = [
        phrase(shade(garment, rng), noun(garment, rng)),
        phrase(weave(garment, rng), noun(garment, rng)),
        phrase(noun(garment, rng), COLOURS_BY_KEY[garment.colour].ko),
        phrase(shade(garment, rng), detail, noun(garment, rng)),
        phrase(pattern, noun(garment, rng), loan(garment)),
        phrase(season, shade(garment, rng), name),
        phrase(shade(garment, rng), weave(garment, rng), name, wish),
        phrase(colour, pattern, detail, name),
    ]
    # What most people type: the thing alone.
    short = (name, phrase(season, name), phrase(name, wish))
    queries = [phrase(colour, pattern, name), *rng.sample(more, rng.randint(0, 2))]
    if rng.random() < 0.75:
        queries.append(rng.choice(short))
    rng.shuffle(queries)
    return distinct(queries)


def _title(garment: Garment, rng: Random) -> str:
    what, season = describe(garment, rng), rng.choice(KINDS[garment.kind].seasons)
    wearing = KINDS[garment.kind].wearing
    return rng.choice(
        (
            f"{what} 어디서 살까? 고민하지 말고 직접 확인하세요!",
            f"{with_particle(what, '을/를')} 찾는다면 여기를 보세요",
            f"오늘의 데일리룩은 {what}!",
            f"내돈내산 {what} 솔직 후기",
            f"{what} 한 달 써 본 후기",
            f"{season}에 {wearing} 좋은 {what} 추천",
            f"요즘 유행하는 {what} 코디 모음",
            f"{with_particle(what, '으로/로')} 완성하는 {season} 코디",
            f"{with_particle(what, '이/가')} 드디어 도착했어요~",
            f"질문 많았던 {what} 정보 공개합니다",
            f"{season} 신상 {what} 할인 소식",
            f"가성비 좋은 {what} 비교해 봤어요",
            f"선물하기 좋은 {what}, 반응이 최고예요",
            f"{with_particle(what, '은/는')} 이렇게 고르세요",
            f"매일 {wearing} 편한 {what} 찾았다!",
            f"{season}맞이 쇼핑 | {what} 언박싱",
        )
    )


def _caption(garment: Garment, background: str, rng: Random) -> str:
    what, where = describe(garment, rng), place(background, rng)
    one = f"한 {KINDS[garment.kind].counter}"
    return rng.choice(
        (
            f"{where}에 놓인 {what} {one}.",
            f"{what} {with_particle(one, '이/가')} {where}에 놓여 있다.",
            f"{where}에 {with_particle(what, '이/가')} 놓여 있다.",
            f"{with_particle(what, '을/를')} {where}에서 찍은 사진.",
            f"{where}에서 촬영한 {what}.",
            f"{where}에 있는 {what}의 모습.",
            f"{where}에 {what} {with_particle(one, '이/가')} 보인다.",
            f"{with_particle(what, '을/를')} 찍은 상품 사진입니다.",
            f"이 상품은 {what}입니다.",
            f"사진 속 상품은 {what} {one}입니다.",
        )
    )


def visible_attributes(garment: Garment) -> dict[str, str]:
    """What one sees of a garment: of its type, and colour, pattern and the pattern's colour."""
    values = dict(garment.attributes)
    values["색상"] = COLOURS_BY_KEY[garment.colour].ko
    values["패턴"] = PATTERNS_BY_KEY[garment.pattern].ko
    if garment.ink is not None:
        values["배색"] = COLOURS_BY_KEY[garment.ink].ko
    return values


def _attributes(garment: Garment, rng: Random) -> dict[str, Any]:
    values: dict[str, Any] = visible_attributes(garment)
    if rng.random() < 0.6:
        materials = rng.sample(KINDS[garment.kind].materials, rng.randint(1, 2))
        values["주요소재"] = materials if len(materials) > 1 else materials[0]
    return values
