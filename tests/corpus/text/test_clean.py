"""The decision: actions, shares, languages, masks; one by one and in batches alike."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm_jax.corpus.text import PERSONAL, REASONS, Cleaned, TextRules, clean, clean_batch
from kmm_jax.errors import ConfigError
from tests.corpus.text.generated import cases

MASKING = TextRules(**dict.fromkeys((*PERSONAL, "profanity"), "mask"))


def test_reasons_are_those_of_the_issue() -> None:
    assert " ".join(REASONS) == (
        "profanity adult resident_number driver_license passport phone tracking_number "
        "card_number address email url symbols language noise_topic empty"
    )


def test_masking_takes_out_the_span_and_keeps_the_rest() -> None:
    assert clean("문의 010-1234-5678 주세요", MASKING) == Cleaned(
        "문의 *** 주세요", "mask", ("phone",), ((3, 16, "phone"),)
    )


def test_a_rejected_text_shows_no_personal_data_either() -> None:
    cleaned = clean("씨발 010-1234-5678로 전화해")
    assert cleaned.decision == "reject"
    assert cleaned.reasons == ("profanity", "phone")
    assert "1234" not in cleaned.text


def test_nothing_but_masked_data_is_empty() -> None:
    found = clean("010-1234-5678", MASKING)
    assert found.reasons == ("phone", "empty") and found.rejected_for == "empty"


@pytest.mark.parametrize("text", ["", "   ", "\u200b\u3164", "😀👍"])
def test_a_text_without_characters_is_empty(text: str) -> None:
    assert clean(text) == Cleaned("", "reject", ("empty",), (), "empty")


def test_what_is_off_is_not_looked_for() -> None:
    off = TextRules(**dict.fromkeys(REASONS, "off"))
    for text in ("씨발 010-1234-5678", "日本", "", "!!!!", "로또"):
        assert clean(text, off).decision == "keep"


@pytest.mark.parametrize(
    ("text", "is_symbols"),
    [
        ("ㅋㅎㅠ 좋다", True),
        ("좋은하루 ㅋㅎ!", False),
        ("Nike Air Max 신발", True),
        ("나이키 에어맥스 Air", False),
        ("★☆★ 특가", True),
        ("2024 12345", False),
    ],
)
def test_half_of_jamo_letters_and_signs_is_too_much(text: str, is_symbols: bool) -> None:
    assert ("symbols" in clean(text).reasons) is is_symbols


def test_english_counts_only_where_the_slide_is_followed() -> None:
    assert clean("Nike Air Max", TextRules(count_latin=False)).decision == "keep"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("日本 여행", "日本"),
        ("かわいい 가방", "かわいい"),
        ("Привет 안녕하세요 여러분", "Привет"),
        ("여름 ผ้า 원단입니다", "ผ้า"),
    ],
)
def test_other_languages_are_found(text: str, found: str) -> None:
    start = text.index(found)
    assert (start, start + len(found), "language") in clean(text).spans


def test_signs_are_no_language_and_hanja_is_korean_by_option() -> None:
    assert clean("플러스α 두께 10μm 카페 Café").decision == "keep"
    assert clean("故 김광석 노래", TextRules(hanja=True)).decision == "keep"
    assert clean("かわいい 가방", TextRules(hanja=True)).reasons == ("language",)


@pytest.mark.parametrize("options", [{"phone": "drop"}, {"symbols": "mask"}, {"symbol_share": 0}])
def test_rules_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TextRules(**options)  # type: ignore[arg-type]


def test_a_batch_says_what_single_texts_say_on_generated_cases() -> None:
    texts = [case.text for case in cases(3, 1500)]
    assert clean_batch(texts) == [clean(text) for text in texts]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.text(
            st.one_of(
                st.sampled_from("시발씨새끼로길동가 ㅅㅂㅣㅏㅋ01@.-!~대박대박\n\t😀İé漢α"),
                st.characters(),
            ),
            max_size=20,
        ),
        max_size=6,
    )
)
def test_a_batch_says_what_single_texts_say(texts: list[str]) -> None:
    for rules in (TextRules(), MASKING):
        assert clean_batch(texts, rules) == [clean(text, rules) for text in texts]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_spans_lie_in_the_input(text: str) -> None:
    for start, end, reason in clean(text).spans:
        assert 0 <= start < end <= len(text) and reason in REASONS
