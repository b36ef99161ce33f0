"""Korean texts for a product known by its attributes: name, title, caption, queries.

The styles are those of slide 3.2: a product name lists what sells, a title talks as a blog does, a
query is short, a caption is a sentence about the picture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from kmm_jax.data.datasets.draws import pick, queries, sentence
from kmm_jax.text.classnames import class_set


@dataclass(frozen=True, kw_only=True)
class Product:
    """The attributes of one product, as the published table has them; ``""`` where unknown."""

    gender: str
    master_category: str
    sub_category: str
    type: str
    color: str
    season: str
    year: str
    usage: str
    display_name: str


# Slots: G who wears it, C colour, P pattern, U usage, S season, Y year, N the article; X what is
# seen (who, colour, pattern, article); F for whom; V what one does with it; K the counting word;
# W only where the background is white; B another word for the article, D another for the colour.
_PRODUCT_NAMES = (
    "{N}",
    "{G} {N}",
    "{G} {C} {U} {N}",
    "{G} {U} {N} {D}",
    "{Y} {S} {G} {C} {N}",
    "{G} {C} {P} {U} {N}",
    "{G} {P} {N} {C}",
    "{U} {G} {C} {N}",
    "{S} {G} {D} {U} {N}",
    "{G} {S} {N} {C}",
)

_CAPTIONS = (
    "{X:을/를} 찍은 상품 사진입니다.",
    "{X:이/가} 있는 상품 사진입니다.",
    "{X} 상품 사진이다.",
    "{C} {N} {K:을/를} 찍은 사진입니다.",
    "{C} {N} 한 {K} 사진.",
    "{F} {C} {N}입니다.",
    "색상이 {C}인 {N}의 사진입니다.",
    "{U} 스타일의 {C} {N} 사진입니다.",
    "{P} {N:이/가} 보이는 상품 사진입니다.",
    "{W} 배경에 {X:이/가} 놓여 있습니다.",
    "{W} 배경 앞의 {C} {N}",
    "{S}에 {V} 좋은 {C} {N}의 모습입니다.",
)

_TITLES = (
    "{N} 추천, 고민하지 말고 직접 확인하세요!",
    "{S}에 {V} 좋은 {G} {N} 추천해요!",
    "{C} {N}, 고민하지 말고 직접 확인하세요!",
    "요즘 눈에 띄는 {G} {N} 모음",
    "{U} 코디에 어울리는 {C} {N} 후기",
    "{G} {N:은/는} 어떤 색이 좋을까? {C:으로/로} 골라봤어요",
    "내돈내산 {C} {N} 솔직 후기",
    "{S} 신상 {G} {N} 소개합니다 :)",
    "{C} {N} 찾으시는 분들 여기 보세요~",
    "{G} {N} 어디서 살까? {D} 컬러 제품 소개",
    "{Y}년 {S} {G} {N} 베스트 추천",
    "{P} {N} 하나쯤은 있어야죠! {V} 좋은 {C} 제품",
)

_QUERIES = (
    "{N}",
    "{C} {N}",
    "{D} {N}",
    "{D} {B}",
    "{G} {N}",
    "{G} {B}",
    "{G} {C} {N}",
    "{G} {D} {B}",
    "{S} {N}",
    "{G} {S} {N}",
    "{P} {N}",
    "{U} {N}",
    "{N} 추천",
    "{N} {D}",
)

# English words in the display name -> the pattern; the word order of the table is the output's.
_PATTERNS: Mapping[str, str] = {
    r"stripe[sd]?": "줄무늬",
    r"check(?:s|ed|ered)?|plaid|tartan": "체크무늬",
    r"floral|flower[sy]?": "꽃무늬",
    r"polka": "물방울무늬",
    r"paisley": "페이즐리",
    r"camo(?:uflage)?": "카모플라주",
    r"embroider(?:ed|y)": "자수",
    r"print(?:s|ed)?|graphic": "프린트",
    r"solid": "무지",
}

_VERBS: Mapping[str, str] = {
    "Apparel": "입기",
    "Footwear": "신기",
    "Socks": "신기",
    "Bags": "들기",
    "Belts": "매기",
    "Ties": "매기",
    "Watches": "차기",
    "Gloves": "끼기",
    "Scarves": "두르기",
    "Mufflers": "두르기",
    "Stoles": "두르기",
}

_COUNTERS: Mapping[str, str] = {
    "Apparel": "벌",
    "Footwear": "켤레",
    "Socks": "켤레",
    "Gloves": "켤레",
    "Innerwear": "장",
    "Scarves": "장",
    "Stoles": "장",
}

_WHITE_BACKGROUND = 0.3
_MOST_QUERIES = 4


def product_texts(product: Product, rng: Random, white_ratio: float) -> dict[str, Any]:
    """The text fields of a record: product_name, title, caption, query, attributes, category.

    ``white_ratio`` is the share of white pixels: only photos that have many are said to have a
    white background.
    """
    words = _words(product, rng)
    asked, counts = queries(rng, _QUERIES, words, _MOST_QUERIES)
    white = {"W": "흰"} if white_ratio >= _WHITE_BACKGROUND else {}
    return {
        "product_name": sentence(rng, _PRODUCT_NAMES, words),
        "title": sentence(rng, _TITLES, words),
        "caption": sentence(rng, _CAPTIONS, words | white),
        "query": asked,
        "query_count": counts,
        "category": "|".join(_category(product)),
        "attributes": _attributes(product),
    }


def patterns(display_name: str) -> list[str]:
    """The patterns that the English name of a product speaks of, in Korean; none is unknown."""
    return [
        korean
        for english, korean in _PATTERNS.items()
        if re.search(rf"\b(?:{english})\b", display_name, re.IGNORECASE)
    ]


def _words(product: Product, rng: Random) -> dict[str, str]:
    """The words for the slots; a slot whose attribute is unknown is absent."""
    gender = _korean("fashion_genders", product.gender)
    color = _korean("fashion_colours", product.color)
    usage = _korean("fashion_usage", product.usage)
    pattern = pick(rng, patterns(product.display_name) or [""])
    article = _article(product)
    words = {
        "G": gender,
        "F": gender if gender.endswith("용") else f"{gender}용" if gender else "",
        "C": color,
        "D": pick(rng, _synonyms("fashion_colours", product.color) or (color,)),
        "P": pattern,
        # 캐주얼 캐주얼화 and 스포츠 스포츠 샌들 are not said.
        "U": "" if usage in article else usage,
        "S": _korean("fashion_seasons", product.season),
        "Y": product.year if product.year.isdigit() else "",
        "N": article,
        "B": pick(
            rng, [_bare(w) for w in _synonyms("fashion_article_types", product.type)] or [article]
        ),
        "V": _of_kind(_VERBS, product, "쓰기"),
        "K": _of_kind(_COUNTERS, product, "개"),
    }
    words["X"] = " ".join(filter(None, (pick(rng, (gender, "")), color, pattern, article)))
    return {slot: word for slot, word in words.items() if word}


def _article(product: Product) -> str:
    for name, key in (
        ("fashion_article_types", product.type),
        ("fashion_sub_categories", product.sub_category),
        ("fashion_master_categories", product.master_category),
    ):
        if korean := _korean(name, key):
            return _bare(korean)
    return "상품"


def _bare(article: str) -> str:
    """The article without the wearer, who has a slot of his own."""
    return article.removeprefix("여성 ").removeprefix("남성 ")


def _category(product: Product) -> list[str]:
    levels = (
        _korean("fashion_master_categories", product.master_category),
        _korean("fashion_sub_categories", product.sub_category),
        _article(product),
    )
    return list(dict.fromkeys(level for level in levels if level))


def _attributes(product: Product) -> dict[str, str | list[str]]:
    attributes: dict[str, str | list[str]] = {
        "종류": _article(product),
        "색상": _korean("fashion_colours", product.color),
        "패턴": patterns(product.display_name),
        "스타일": _korean("fashion_usage", product.usage),
        "계절": _korean("fashion_seasons", product.season),
        "대상": _korean("fashion_genders", product.gender),
    }
    return {key: value for key, value in attributes.items() if value}


def _of_kind(table: Mapping[str, str], product: Product, default: str) -> str:
    by_master = table.get(product.master_category, default)
    return table.get(product.sub_category, by_master)


@cache
def _rows(name: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    classes = class_set(name)
    return dict(zip(classes.keys, zip(classes.ko, classes.synonyms, strict=True), strict=True))


def _korean(name: str, key: str) -> str:
    return _rows(name)[key][0] if key in _rows(name) else ""


def _synonyms(name: str, key: str) -> tuple[str, ...]:
    return _rows(name)[key][1] if key in _rows(name) else ()
