"""Korean merges behind those of an English tokenizer: English stays, Korean gets shorter."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.text.adopted import adopt, padded_with
from kmm_jax.text.clip_bpe import train_clip_bpe
from kmm_jax.text.extension import extend, parts
from kmm_jax.text.tokenizer import Tokenizer
from tests import references

KOREAN = [
    "빨간 원피스를 입은 사람",
    "빨간 티셔츠를 찍은 상품 사진입니다.",
    "파란 셔츠와 검은색 핸드백",
    "검은색 손목시계 사진, 정말 예쁘네요 ㅋㅋㅋ",
    "USB케이블과 고양이 2마리",
] * 3
ENGLISH = ["a photo of a red t-shirt", "the user's blue shirts, size 42!", "naïve café 漢字"] * 3
OTHERS = [
    "",
    "a photo of a red t-shirt!!",
    "it's   the user's\n\tbag",
    "漢字 日本語の服 ꀀꦀ ꯀ ㄅㄆㄇ ㈱",  # scripts whose bytes begin or continue as those of Hangul
    "☕ 👗 ½ naïve",
    "<|endoftext|>",
]


def has_hangul(text: str) -> bool:
    return any(
        "\uac00" <= letter <= "\ud7ff" or "\u3131" <= letter <= "\u318e"
        for letter in unicodedata.normalize("NFC", text)
    )


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return train_clip_bpe([*ENGLISH, *KOREAN[:1]], 700)


@pytest.fixture(scope="module")
def extended(small: Tokenizer) -> Tokenizer:
    return extend(small, KOREAN, new_tokens=120)


@pytest.fixture(scope="module")
def openais() -> Tokenizer:
    return padded_with(Tokenizer(adopt(references.openai_vocabulary())), "<|endoftext|>")


@pytest.fixture(scope="module")
def openais_extended(openais: Tokenizer) -> Tokenizer:
    return extend(openais, KOREAN, new_tokens=150)


@settings(max_examples=300)
@given(st.text().filter(lambda text: not has_hangul(text)))
def test_text_without_hangul_keeps_its_ids(small, extended, text):
    assert extended.encode(text) == small.encode(text)


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        st.characters(min_codepoint=0x2E80, max_codepoint=0xD7FF, exclude_categories=["Cs", "Cn"])
    ).filter(lambda text: not has_hangul(text))
)
def test_other_scripts_of_three_bytes_keep_openais_ids(openais, openais_extended, text):
    assert openais_extended.encode(text) == openais.encode(text)


def test_english_keeps_openais_ids_and_new_ones_follow_its_highest(openais, openais_extended):
    for text in [*OTHERS, *ENGLISH]:
        assert openais_extended.encode(text) == openais.encode(text), text
    new = openais_extended.vocab_size - openais.vocab_size
    assert 60 < new <= 150
    added = {i for i in openais_extended.vocabulary.values() if i > 49_407}
    assert added == set(range(49_408, 49_408 + new))
    marks = ("bos_id", "eos_id", "pad_id")
    assert [getattr(openais_extended, mark) for mark in marks] == [49_406, 49_407, 49_407]
    rows_NL = openais_extended.sequences(["a cat", "고양이 사진"], None, 77)
    assert rows_NL.shape == (2, 77) and rows_NL[:, 0].tolist() == [49_406, 49_406]
    assert rows_NL[0, 3:].tolist() == [49_407] * 74


def test_korean_gets_shorter_and_comes_back(small, extended, openais, openais_extended):
    for base, longer in ((small, extended), (openais, openais_extended)):
        before = sum(len(base.encode(text)) for text in KOREAN)
        after = sum(len(longer.encode(text)) for text in KOREAN)
        assert after < 0.6 * before
        for text in KOREAN:
            assert longer.decode(longer.encode(text)) == base.decode(base.encode(text))


def test_every_new_merge_fires_and_words_are_cut_as_the_learner_saw_them(small, extended):
    # Each merge was learned on texts that it shortens; without the last ones they are longer.
    file = json.loads(extended.json)
    first = len(json.loads(small.json)["model"]["merges"])
    merges = file["model"]["merges"]
    length = sum(len(extended.encode(text)) for text in KOREAN)
    for count in range(len(merges) - 1, first - 1, -7):
        file["model"]["merges"] = merges[:count]
        shorter = Tokenizer(json.dumps(file))
        longer = sum(len(shorter.encode(text)) for text in KOREAN)
        assert longer > length
        length = longer


@given(st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), max_size=20))
def test_decomposed_hangul_is_cut_as_composed(extended, text):
    decomposed = unicodedata.normalize("NFD", text)
    assert extended.encode(decomposed) == extended.encode(text)


def test_a_new_token_stands_for_ids_of_the_old_tokenizer(small, extended):
    stands_for = parts(extended, small)
    assert set(stands_for) == set(range(small.vocab_size, extended.vocab_size))
    for text in KOREAN:
        unrolled = [old for new in extended.encode(text) for old in stands_for.get(new, (new,))]
        assert unrolled == small.encode(text)
    with pytest.raises(UserError, match="was not made from"):
        parts(small, extended)


def test_an_extended_tokenizer_can_be_extended(small, extended):
    again = extend(extended, ["초록 모자 초록 모자"] * 2, new_tokens=20)
    assert again.vocab_size > extended.vocab_size
    assert len(again.encode("초록 모자")) < len(extended.encode("초록 모자"))
    for text in OTHERS:
        assert again.encode(text) == small.encode(text)


def test_the_same_texts_in_another_order_give_the_same_bytes(small):
    one = extend(small, KOREAN, new_tokens=60)
    assert one.json == extend(small, KOREAN[::-1], new_tokens=60).json
    assert one.vocab_size == small.vocab_size + 60


def test_what_cannot_be_extended_is_said(small):
    with pytest.raises(ConfigError, match="new_tokens is 0"):
        extend(small, KOREAN, new_tokens=0)
    with pytest.raises(DataError, match="no word in Hangul"):
        extend(small, ENGLISH, new_tokens=9)
    own = Tokenizer.train(KOREAN, vocab_size=400)
    with pytest.raises(UserError, match="no byte-level BPE"):
        extend(own, KOREAN, new_tokens=9)
