"""Korean captions, titles and queries for a photo of one of CIFAR-10's ten things."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from kmm_jax.data.datasets.draws import pick, queries, sentence
from kmm_jax.text.classnames import class_set

# Slots: N the thing, B another word for it, K its counting word, A for animals, R for vehicles.
_CAPTIONS = (
    "{N} 사진입니다.",
    "{N:을/를} 찍은 사진입니다.",
    "{N:을/를} 찍은 작은 사진이다.",
    "사진 속에 {N:이/가} 있습니다.",
    "사진에 {N} 한 {K:이/가} 보입니다.",
    "{N} 한 {K:을/를} 가까이에서 찍었다.",
    "이것은 {N}입니다.",
    "화면 가운데에 {N:이/가} 보인다.",
    "{A} {N}의 모습을 담은 사진",
    "{R} {N}의 모습을 담은 사진",
    "누군가 {N:을/를} 카메라에 담았다.",
)

_TITLES = (
    "오늘 찍은 {N} 사진 올려요",
    "{N} 좋아하시는 분들 보세요!",
    "{N} 사진 모음, 고민하지 말고 구경하세요",
    "아이와 함께 본 {N} 이야기",
    "{A} {N}에 대해 알아볼까요?",
    "{R} {N}의 모든 것",
    "길에서 만난 {A} {N}, 너무 반가웠어요 :)",
    "{R} {N:을/를} 직접 보고 왔습니다",
    "배경 화면으로 쓰기 좋은 {N} 사진",
    "{N} 사진 잘 찍는 법",
)

_QUERIES = (
    "{N}",
    "{N} 사진",
    "{N} 이미지",
    "{B}",
    "{B} 사진",
    "{A} {N}",
    "{A} {N} 사진",
    "{R} {N} 사진",
    "{N} 종류",
    "{N} 그림",
    "{N} 배경 화면",
)

_ANIMALS: Mapping[str, tuple[str, ...]] = {
    "bird": ("예쁜", "작은"),
    "cat": ("귀여운", "예쁜"),
    "deer": ("야생", "순한"),
    "dog": ("귀여운", "순한"),
    "frog": ("작은", "귀여운"),
    "horse": ("멋진", "튼튼한"),
}

_VEHICLES: Mapping[str, tuple[str, ...]] = {
    "airplane": ("커다란", "멋진"),
    "automobile": ("멋진", "새로 나온"),
    "ship": ("커다란", "튼튼한"),
    "truck": ("커다란", "튼튼한"),
}

_MOST_QUERIES = 3


def photo_texts(key: str, rng: Random) -> dict[str, Any]:
    """The text fields of a record for the class ``key``: title, caption, query, attributes."""
    classes = class_set("cifar10")
    name = classes.ko[classes.index(key)]
    others = classes.synonyms[classes.index(key)]
    group = "동물" if key in _ANIMALS else "탈것"
    words = {"N": name, "B": pick(rng, others or (name,))}
    if key in _ANIMALS:
        words |= {"A": pick(rng, _ANIMALS[key]), "K": "마리"}
    else:
        words |= {"R": pick(rng, _VEHICLES[key]), "K": "척" if key == "ship" else "대"}
    asked, counts = queries(rng, _QUERIES, words, _MOST_QUERIES)
    return {
        "title": sentence(rng, _TITLES, words),
        "caption": sentence(rng, _CAPTIONS, words),
        "query": asked,
        "query_count": counts,
        "category": f"{group}|{name}",
        "attributes": {"종류": name, "분류": group},
    }
