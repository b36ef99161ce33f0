"""Normalising with positions: the text is normalize's, the spans are the input's."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm_jax.corpus.text.mapping import normalized
from kmm_jax.text.normalize import normalize

TEXTS = st.text(
    st.one_of(
        st.sampled_from(
            "가각ㅋㅎㅠ한국 \u200b\u3000\u1112\u1161\u11ab!~.aZ1\u0301é\ud800😀👍🏽\ufe0f"
        ),
        st.characters(),
    ),
    max_size=24,
)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_without_emoji_it_writes_what_normalize_writes(text: str) -> None:
    mapped = normalized(text, shorten=False)
    if mapped.text != normalize(text):  # only emoji may make a difference
        assert len(mapped.text) < len(normalize(text)) or "😀" in text or not text.isascii()
        assert normalize(mapped.text) == mapped.text
    for place in range(len(mapped.text)):
        start, end = mapped.span(place, place + 1)
        assert 0 <= start < end <= len(text)


@settings(max_examples=300, deadline=None)
@given(st.text("가나다ㅋㅎ !~.aA1", max_size=30))
def test_shortening_is_idempotent_and_keeps_digits(text: str) -> None:
    once = normalized(text).text
    assert normalized(once).text == once
    assert once.count("1") == text.count("1")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("ㅋㅋㅋㅋㅋ", "ㅋㅋ"),
        ("대박대박대박", "대박"),
        ("대박 대박 대박 할인", "대박 할인"),
        ("최고!!!!! 정말~~~~", "최고!! 정말~~"),
        ("100000원 1111", "100000원 1111"),
        ("하하하 그렇군...", "하하하 그렇군..."),
        ("ㅠㅠㅠㅠ 너무해......", "ㅠㅠ 너무해..."),
        ("반짝반짝 XXXL AAAA건전지", "반짝반짝 XXXL AAAA건전지"),
        ("좋아요😀😀 또 올게요👍🏽", "좋아요 또 올게요"),
    ],
)
def test_meaningless_repetition_becomes_short(text: str, short: str) -> None:
    assert normalized(text).text == short


def test_spans_reach_back_through_decomposed_hangul_and_what_was_removed() -> None:
    text = unicodedata.normalize("NFD", "한국") + "\u200b  전화😀번호"
    mapped = normalized(text)
    assert mapped.text == "한국 전화 번호"
    start, end = mapped.span(mapped.text.index("번호"), len(mapped.text))
    assert text[start:end] == "번호"
    assert unicodedata.normalize("NFC", text[slice(*mapped.span(0, 1))]) == "한"
