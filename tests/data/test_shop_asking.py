"""The shop's questions: true of the picture, in Korean with the right particles, and balanced."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter, defaultdict

import pytest

from kmm_jax.data.questions import questions
from kmm_jax.data.schema import texts, validate_record
from kmm_jax.data.shop import ShopConfig, render_item
from kmm_jax.data.shop.asking import HELD_OUT, NO, TRAINING, WORDINGS, YES, facts
from kmm_jax.data.shop.shop import _stream, picture_of, scene_of
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY

TRAIN = ShopConfig(items=250, seed=3, split="train", image_size=32, english=True, questions=True)
TEST = dataclasses.replace(TRAIN, split="test")


@pytest.fixture(scope="module", params=[TRAIN, TEST], ids=["train", "test"])
def records(request):
    return [render_item(request.param, index).record for index in range(request.param.items)]


def test_other_texts_stay_what_they_are_without_them():
    plain = dataclasses.replace(TRAIN, english=False, questions=False)
    for index in (0, 7):
        with_all, without = (render_item(config, index) for config in (TRAIN, plain))
        assert with_all.jpeg == without.jpeg
        more = {"caption_en", "query_en", "questions"}
        assert with_all.record == without.record | {name: with_all.record[name] for name in more}
        assert not more & without.record.keys()


def test_every_answer_is_true_of_the_record(records):
    """From the boxes alone, which say what is where."""
    kinds = {kind.ko: key for key, kind in KINDS.items()}
    colours = {colour.ko: key for key, colour in COLOURS_BY_KEY.items()}
    patterns = {pattern.ko: key for key, pattern in PATTERNS_BY_KEY.items()}
    met = Counter()
    for record in records:
        validate_record(record)
        boxes = record["boxes"]
        for one in questions(record):
            met[one.kind] += 1
            asked = one.question
            # The longest name in the question: 반바지 holds 바지.
            named = [name for name in kinds if name in asked]
            thing = kinds[max(named, key=len)] if named else None
            of = [box for box in boxes if thing is None or box["type"] == thing]
            if one.kind == "count":
                assert one.answer == {1: "하나", 2: "둘", 3: "셋"}[len(boxes)]
            elif one.kind == "type":
                assert kinds[one.answer] == boxes[0]["type"]
            elif one.kind in ("color", "color_of"):
                assert colours[one.answer] == of[0]["color"]
            elif one.kind in ("pattern", "pattern_of"):
                assert patterns[one.answer] == of[0]["pattern"]
            elif one.kind in ("is_type", "has"):
                assert one.answer == (YES if of else NO)
            elif one.kind in ("is_color", "is_pattern"):
                label, names = {
                    "is_color": ("color", colours),
                    "is_pattern": ("pattern", patterns),
                }[one.kind]
                value = max((name for name in names if name in asked), key=len)
                assert one.answer == (YES if names[value] == boxes[0][label] else NO)
            elif one.kind == "which":
                value = colours[max((name for name in colours if name in asked), key=len)]
                assert [box["type"] for box in boxes if box["color"] == value] == [
                    kinds[one.answer]
                ]
            else:
                x0, y0, x1, y1 = of[0]["box"]
                middle = {"left_right": (x0 + x1) / 2, "top_bottom": (y0 + y1) / 2}[one.kind]
                far = {"왼쪽": -1, "위": -1, "오른쪽": 1, "아래": 1}[one.answer]
                assert far * (middle - 16) > 0
    assert set(met) == set(WORDINGS)


def test_held_out_wordings_say_the_same_words_in_another_way():
    for kind, wordings in WORDINGS.items():
        assert wordings[TRAINING] and wordings[HELD_OUT], kind
    every = {
        name: {text for wordings in WORDINGS.values() for text in wordings[name]}
        for name in (TRAINING, HELD_OUT)
    }
    assert not every[TRAINING] & every[HELD_OUT]

    def words(name):
        # {thing 은/는} is a word of any particle: the tokenizer meets both forms.
        bare = (re.sub(r"\{(thing|value)[^}]*\}", "X", text) for text in every[name])
        return {word for text in bare for word in text.split()}

    assert words(HELD_OUT) <= words(TRAINING)


def test_training_rows_have_training_wordings_and_test_rows_both(records):
    for record in records:
        by_kind = defaultdict(list)
        for one in questions(record):
            by_kind[one.kind].append((one.wording, one.answer))
        for found in by_kind.values():
            names = [wording for wording, _ in found]
            test = record["image_url"].startswith("shop://3/test/")
            assert names == ([TRAINING, HELD_OUT] if test else [TRAINING])
            assert len({answer for _, answer in found}) == 1


def test_a_particle_fits_the_word_before_it(records):
    """By Unicode arithmetic on the syllable before, apart from the library's own rule."""
    things = (*KINDS.values(), *COLOURS_BY_KEY.values(), *PATTERNS_BY_KEY.values())
    names = "|".join(sorted((thing.ko for thing in things), key=len, reverse=True))
    pattern = re.compile(rf"({names})(은|는|이|가|을|를|이에요|예요)(?=[ ?]|$)")
    met = Counter()
    for record in records:
        for one in questions(record):
            for word, particle in pattern.findall(one.question):
                closed = (ord(word[-1]) - ord("가")) % 28 > 0
                assert closed == (particle in ("은", "이", "을", "이에요")), one.question
                met[particle] += 1
            assert "{" not in one.question and "(" not in one.question
    assert {"은", "는", "이", "가", "이에요", "예요"} <= set(met)


@pytest.mark.parametrize("split", ["train", "test"])
def test_yes_is_as_likely_as_no_for_every_value_asked_about(split):
    config = dataclasses.replace(TRAIN, split=split)
    said = defaultdict(Counter)
    for index in range(4000):
        scene = scene_of(config, index)
        if len(scene.garments) == 1:  # the others need a painted picture
            rng = _stream(config, index, "questions")
            for fact in facts(scene.garments, (), side=32, split=split, rng=rng):
                if fact.answer in (YES, NO):
                    said[fact.kind, fact.value][fact.answer] += 1
    # 3,200 questions of a kind: a value of 22 has 290, whose share of yes strays by 0.03.
    assert len(said) == len(KINDS) + len(COLOURS_BY_KEY) + len(PATTERNS_BY_KEY)
    for value, counts in said.items():
        share = counts[YES] / counts.total()
        assert abs(share - 0.5) < 5 * 0.5 / counts.total() ** 0.5, (value, counts)


def test_a_side_is_asked_about_only_where_both_have_something():
    config = dataclasses.replace(TRAIN, several_share=1.0)
    answers = Counter()
    for index in range(60):
        scene, picture = scene_of(config, index), picture_of(config, index)
        rng = _stream(config, index, "questions")
        found = facts(scene.garments, picture.boxes, side=32, split="train", rng=rng)
        for fact in found:
            if fact.kind in ("left_right", "top_bottom"):
                answers[fact.answer] += 1
                axis = int(fact.kind == "top_bottom")
                off = [(box[axis] + box[axis + 2]) / 64 - 0.5 for box in picture.boxes]
                assert min(off) <= -0.1 and max(off) >= 0.1
    assert all(answers[word] > 5 for word in ("왼쪽", "오른쪽", "위", "아래"))


def test_english_texts_name_what_is_shown(records):
    nouns = {"tshirt": "t-shirt", "knit": "sweater"}
    for record in records:
        by_field = {field: text for field, text, _ in texts(record)}
        for box, field in itertools.product(record["boxes"], ("caption_en",)):
            assert nouns.get(box["type"], box["type"]) in by_field[field]
        assert by_field["query_en"] and len(record["query_en"]) == len(set(record["query_en"]))
        assert not re.search(r"[가-힣]", " ".join((record["caption_en"], *record["query_en"])))
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", record["caption_en"])
