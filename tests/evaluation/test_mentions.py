"""Which classes a Korean text names."""

import numpy as np
import pytest

from kmm_jax.evaluation.classes import named_classes
from kmm_jax.evaluation.mentions import finder, mention_rates

find = finder([("티셔츠", "티", "면티"), ("셔츠", "남방"), ("바지",), ("반바지", "쇼츠")])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("빨간 티셔츠를 찍은 사진", {0}),
        ("체크셔츠와 청바지", {1, 2}),
        ("반바지 한 벌", {3}),
        ("반바지와 바지", {2, 3}),
        ("티를 샀다", {0}),
        ("파티에 갈 때", set()),
        ("면티", {0}),
        ("남\u1107\u1161\u11bc", {1}),
        ("", set()),
    ],
)
def test_the_longest_word_counts(text, named):
    assert find(text) == named


def test_a_word_of_two_classes_names_both():
    assert finder([("점퍼",), ("재킷", "점퍼")])("겨울 점퍼") == {0, 1}


def test_no_words_name_nothing():
    assert finder([(), ()])("빨간 셔츠") == frozenset()


def test_the_shops_own_words_find_its_own_products():
    types = named_classes("shop_types")
    find = finder(types.words())
    assert find("블루 꽃무늬 하이탑 운동화 한 켤레입니다") == {types.keys.index("sneakers")}


def test_chance_is_the_mean_over_all_pairs_of_text_and_row():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 30)
    named = [frozenset(rng.choice(6, rng.integers(0, 3), replace=False).tolist()) for _ in truth]
    rate, chance = mention_rates(named, truth)
    assert rate == pytest.approx(np.mean([t in n for t, n in zip(truth, named, strict=True)]))
    assert chance == pytest.approx(np.mean([t in n for t in truth for n in named]))
