"""What the quickstart does with each data set: rows, sizes, classes, searches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kmm_jax.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One data set's walk.

    Attributes:
        title: for people.
        train, test: rows to make at most; the test rows are the gallery.
        made_size: side of the pictures that are rendered, for the shop.
        vocabulary: tokens asked of the tokenizer.
        overrides: of the config ``coca/shop``, which trains every set.
        classes: (class set, label) for zero-shot, the main one first.
        retrieval: the text field that finds its picture; its style is the field's.
        searches: Korean queries for the report.
        composed: (query that finds a picture, text added to that picture).
    """

    title: str
    train: int
    test: int
    made_size: int = 96
    vocabulary: int
    overrides: Mapping[str, str]
    classes: tuple[tuple[str, str], ...]
    retrieval: str
    searches: tuple[str, ...]
    composed: tuple[tuple[str, str], ...]


RECIPES = {
    "shop": Recipe(
        title="한국어 옷가게 · the built-in Korean shop",
        train=12_000,
        test=800,
        vocabulary=1500,
        overrides={"duration": "20 epochs"},
        classes=(
            ("shop_types", "type"),
            ("shop_colours", "color"),
            ("shop_patterns", "pattern"),
        ),
        retrieval="product_name",
        searches=(
            "빨간 체크 셔츠",
            "파란색 줄무늬 티셔츠",
            "검은색 운동화",
            "분홍색 꽃무늬 원피스",
            "노란 우산",
        ),
        composed=(("파란색 원피스", "빨간색"), ("줄무늬 티셔츠", "도트무늬")),
    ),
    "fashion_products": Recipe(
        title="Fashion Product Images (Small)",
        train=6500,
        test=1000,
        vocabulary=1500,
        overrides={
            "duration": "36 epochs",
            "data.text_length": "20",
            "task.model.text.length": "20",
        },
        classes=(
            ("fashion_article_types", "type"),
            ("fashion_colours", "color"),
            ("fashion_genders", "gender"),
        ),
        retrieval="product_name",
        searches=(
            "여성 빨간색 원피스",
            "남성 검은색 구두",
            "파란색 청바지",
            "갈색 손목시계",
            "흰색 티셔츠",
        ),
        composed=(("검은색 구두", "갈색"), ("파란색 티셔츠", "빨간색")),
    ),
    "cifar10": Recipe(
        title="CIFAR-10",
        train=40_000,
        test=1000,
        vocabulary=1000,
        overrides={"duration": "6 epochs"},
        classes=(("cifar10", "type"),),
        retrieval="caption",
        searches=(
            "하늘을 나는 비행기",
            "고양이 사진",
            "바다 위의 선박",
            "빨간 자동차",
            "초원의 말",
        ),
        composed=(("자동차", "트럭"), ("강아지", "고양이")),
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in RECIPES:
        raise ConfigError(f"no quickstart data {name!r}{nearest(name, RECIPES)}")
    return RECIPES[name]
