"""English and Korean prompts for products: complete, well formed, some never trained on."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from random import Random

import pytest

from kmm_jax.data.datasets import fashion_prompt_words as words
from kmm_jax.data.datasets.fashion_pairs import COLORS, TYPES
from kmm_jax.data.datasets.fashion_prompts import (
    TEMPLATES,
    Look,
    draw,
    draw_pair,
    every_wording,
    plain,
)
from kmm_jax.data.datasets.fashion_wording import Product
from kmm_jax.errors import UserError
from kmm_jax.text.classnames import class_set
from kmm_jax.text.templates import slots

LANGUAGES = ("ko", "en")
WORDINGS = ("training", "held_out")


def cycled(values, number):
    return list(values)[number % len(values)]


# Every pair once, with all that may be said; each value of an attribute on several of them.
LOOKS = [
    Look(
        type=type_,
        color=color,
        gender=cycled(words.ENGLISH_GENDERS, i + 3 * j),
        usage=cycled(words.ENGLISH_USAGES, i + j),
        season=cycled(words.ENGLISH_SEASONS, i + j // 2),
        pattern=cycled(words.PATTERNS, i + j),
    )
    for i, type_ in enumerate(TYPES)
    for j, color in enumerate(COLORS)
]


@cache
def texts(language, wordings):
    return [text for look in LOOKS for text in every_wording(look, language, wordings)]


def test_templates_are_disjoint_and_no_held_out_text_is_one_of_training():
    for language in LANGUAGES:
        training, held_out = (set(TEMPLATES[language, one]) for one in WORDINGS)
        assert not training & held_out
        assert not set(texts(language, "training")) & set(texts(language, "held_out"))


def test_each_template_says_one_colour_and_the_type_and_stands_once():
    for lines in TEMPLATES.values():
        assert len(set(lines)) == len(lines)
        for line in lines:
            assert "T" in slots(line) and len(slots(line) & set("CADE")) == 1, line


def test_what_can_be_said_in_training_can_be_said_held_out_and_in_both_languages():
    kinds = []
    for lines in TEMPLATES.values():
        renamed = (frozenset(slots(line)) & set("GFUVSP") for line in lines)
        kinds.append(
            {
                frozenset("G" if s in "GF" else "U" if s in "UV" else s for s in one)
                for one in renamed
            }
        )
    assert len(kinds[0]) == 8 and all(kind == kinds[0] for kind in kinds)


def test_every_pair_has_words_in_both_languages_alone_and_with_more():
    for look in LOOKS:
        bare = Look(type=look.type, color=look.color)
        for language in LANGUAGES:
            for wordings in WORDINGS:
                few = every_wording(bare, language, wordings)
                assert len(few) >= 10
                assert len(every_wording(look, language, wordings)) > 2 * len(few)


def test_texts_are_whole_and_well_formed():
    for language in LANGUAGES:
        for wordings in WORDINGS:
            for text in texts(language, wordings):
                assert not re.search(r"[{}]|  | [,.)]|^ | $|\b(\w+) \1\b", text), text
                assert text == unicodedata.normalize("NFC", text)
                assert bool(re.search("[가-힣]", text)) == (language == "ko"), text
                assert not re.search(r"\ba [aeio]|\ban [^aeio]|\ba pair of \S+ (shirt|watch)", text)
                assert language == "en" or not re.search("[a-zA-Z]", text), text


def test_particles_follow_the_end_of_the_word():
    nouns = [word for names in _korean("fashion_article_types", TYPES) for word in names]
    nouns += [word for _, several, _ in words.KOREAN_COLORS.values() for word in several]
    nouns += [f"{word.removesuffix('용')}용" for word in _flat("fashion_genders")]
    nouns += _flat("fashion_seasons")
    pattern = re.compile(
        rf"({'|'.join(sorted(nouns, key=len, reverse=True))})"
        r"(은|는|이|가|을|를|으로|로|이다|다)(?=[ .]|$)"
    )
    seen = set()
    for wordings in WORDINGS:
        for text in texts("ko", wordings):
            for noun, particle in pattern.findall(text):
                seen.add(particle)
                final = unicodedata.normalize("NFD", noun[-1])[2:]
                if particle in ("으로", "로"):
                    assert particle == ("으로" if final not in ("", "\u11af") else "로"), text
                elif particle in ("이다", "다"):
                    assert particle == ("이다" if final else "다"), text
                else:
                    assert particle in ("은이을" if final else "는가를"), text
    assert {"은", "는", "이", "가", "을", "를", "으로", "이다"} <= seen


def test_every_word_is_learned_though_some_pairings_are_held_out():
    for language, found in (("ko", _korean("fashion_article_types", TYPES)), ("en", _english())):
        training = " / ".join(texts(language, "training"))
        for word in (word for names in found for word in names):
            assert word in training, word
    learned = " / ".join(texts("ko", "training"))
    for before, noun, borrowed in words.KOREAN_COLORS.values():
        assert all(word in learned for word in (*before, *noun, borrowed))
    held_out = " / ".join(texts("ko", "held_out"))
    assert "까만 티셔츠" not in learned and "까만 티셔츠" in held_out


def test_draws_are_among_all_wordings_and_the_same_for_the_same_seed():
    for number, look in enumerate(LOOKS):
        for wordings in WORDINGS:
            korean, english = draw_pair(Random(number), look, wordings)
            assert korean in every_wording(look, "ko", wordings)
            assert english in every_wording(look, "en", wordings)
            assert (korean, english) == draw_pair(Random(number), look, wordings)
    rng = Random(0)
    assert len({draw(rng, LOOKS[0], "ko") for _ in range(300)}) > 60


def test_both_of_a_pair_say_the_same_and_half_say_only_type_and_colour():
    look = Look(type="Shirts", color="Red", gender="Women", season="Summer", pattern="줄무늬")
    rng, extra = Random(3), 0
    for wordings in WORDINGS * 200:
        korean, english = draw_pair(rng, look, wordings)
        said = [
            (re.search("여성|여자", korean), "women" in english),
            ("여름" in korean, "summer" in english),
            (re.search("줄무늬|스트라이프", korean), re.search("strip", english)),
        ]
        assert all(bool(one) == bool(other) for one, other in said), (korean, english)
        extra += any(one for one, _ in said)
    assert 140 < extra < 260


def test_the_usual_prompt_of_a_product():
    item = Product(
        gender="Men",
        master_category="Apparel",
        sub_category="Topwear",
        type="Tshirts",
        color="Red",
        season="Summer",
        year="2011",
        usage="Casual",
        display_name="Brand Men Striped Red T-shirt",
    )
    look = Look.of(item)
    assert look.pattern == "줄무늬" and look.usage == "Casual"
    assert plain(look, "en") == "a photo of a red t-shirt"
    assert plain(look, "ko") == "빨간 티셔츠의 사진"
    assert plain(Look(type="Heels", color="Grey"), "en") == "a photo of grey high heels"


def test_nobody_says_casual_casual_shoes_and_unknown_values_are_left_out():
    look = Look(type="Casual Shoes", color="Red", usage="Smart Casual", gender="?", season="NA")
    bare = Look(type="Casual Shoes", color="Red")
    for language in LANGUAGES:
        assert every_wording(look, language, "training") == every_wording(
            bare, language, "training"
        )


def test_what_has_no_words_is_said():
    with pytest.raises(UserError, match="did you mean 'Tshirts'"):
        Look(type="Tshirt", color="Red")
    with pytest.raises(UserError, match="no prompts for 'Teal'"):
        Look(type="Tshirts", color="Teal")


def _korean(classes, keys):
    found = class_set(classes)
    return [(found.ko[found.index(key)], *found.synonyms[found.index(key)]) for key in keys]


def _flat(classes):
    return [word for names in _korean(classes, class_set(classes).keys) for word in names]


def _english():
    types = class_set("fashion_article_types")
    return [(types.en[types.index(key)].lower(), *words.ENGLISH_TYPES[key]) for key in TYPES]
