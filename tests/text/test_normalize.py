from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm_jax.text.normalize import INVISIBLE, SPACES, normalize

JAMO = st.text(st.characters(min_codepoint=0x1100, max_codepoint=0x11FF), max_size=12)
HANGUL = st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), max_size=12)
INVISIBLE_TEXT = st.text(
    st.sampled_from([chr(low) for low, _ in (*INVISIBLE, *SPACES)] + list("가ㅏa\u0301\u1161")),
    max_size=12,
)
ANY = st.one_of(st.text(max_size=30), JAMO, HANGUL, INVISIBLE_TEXT)


@given(HANGUL)
def test_decomposed_hangul_equals_composed(text: str) -> None:
    assert normalize(unicodedata.normalize("NFD", text)) == normalize(text) == text


@settings(max_examples=300)
@given(ANY)
def test_canonically_equal_texts_become_one(text: str) -> None:
    assert normalize(unicodedata.normalize("NFD", text)) == normalize(text)
    assert normalize(unicodedata.normalize("NFC", text)) == normalize(text)


@settings(max_examples=300)
@given(ANY)
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@settings(max_examples=300)
@given(ANY)
def test_only_single_inner_spaces_and_no_controls_are_left(text: str) -> None:
    clean = normalize(text)
    assert clean == clean.strip() and "  " not in clean
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in clean)
    assert not any(c.isspace() and c != " " for c in clean)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  흰색\t셔츠\n\n 사진 ", "흰색 셔츠 사진"),
        ("흰색\u200b셔츠\ufeff", "흰색셔츠"),
        ("흰색\u3000셔츠\u00a0사진", "흰색 셔츠 사진"),
        ("\u1112\u200b\u1161\u11ab", "한"),
        ("❤\ufe0f", "❤"),
        ("\ud83d셔츠", "셔츠"),
        ("ㅤ", ""),
        ("ㄱㄴ ㅋㅋ", "ㄱㄴ ㅋㅋ"),
        ("", ""),
    ],
)
def test_what_people_and_files_really_contain(raw: str, clean: str) -> None:
    assert normalize(raw) == clean
