from __future__ import annotations

import unicodedata

import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.text.particles import PARTICLES, with_particle, word_ending


def test_every_syllable_follows_its_own_final_consonant() -> None:
    for code in range(0xAC00, 0xD7A4):
        jamo = unicodedata.normalize("NFD", chr(code))
        expected = "vowel" if len(jamo) == 2 else "rieul" if jamo[2] == "\u11af" else "consonant"
        assert word_ending(chr(code)) == word_ending(jamo) == expected


@pytest.mark.parametrize(
    ("word", "pair", "expected"),
    [
        ("셔츠", "을/를", "셔츠를"),
        ("양말", "을/를", "양말을"),
        ("셔츠", "은/는", "셔츠는"),
        ("스커트", "이/가", "스커트가"),
        ("장갑", "과/와", "장갑과"),
        ("시계", "과/와", "시계와"),
        ("가방", "으로/로", "가방으로"),
        ("양말", "으로/로", "양말로"),
        ("치마", "으로/로", "치마로"),
        ("양말", "이다/다", "양말이다"),
        ("1", "으로/로", "1로"),
        ("3", "을/를", "3을"),
        ("10", "은/는", "10은"),
        ("2,500", "이/가", "2,500이"),
        ("10000", "을/를", "10000을"),
        ("0", "을/를", "0을"),
        ("3.2", "은/는", "3.2는"),
        ("1000000000000", "을/를", "1000000000000를"),
        ("2026", "은/는", "2026은"),
        ("USB", "을/를", "USB를"),
        ("LED", "이/가", "LED가"),
        ("XL", "으로/로", "XL로"),
        ("FM", "은/는", "FM은"),
        ("style", "은/는", "style은"),
        ("jacket", "을/를", "jacket을"),
        ("coat", "을/를", "coat를"),
        ("Nike", "은/는", "Nike는"),
        ("phone", "이/가", "phone이"),
        ("10cm", "은/는", "10cm는"),
        ("5 kg", "을/를", "5 kg을"),
        ("50%", "을/를", "50%를"),
        ('"니트"', "을/를", '"니트"를'),
        ("(양말)", "은/는", "(양말)은"),
        ("ㄱ", "을/를", "ㄱ을"),
        ("ㅏ", "을/를", "ㅏ를"),
        ("漢字", "을/를", "漢字을(를)"),
        ("👕", "으로/로", "👕(으)로"),
        ("", "을/를", "을(를)"),
    ],
)
def test_particles_as_they_are_read_aloud(word: str, pair: str, expected: str) -> None:
    assert with_particle(word, pair) == expected


def test_numbers_agree_with_their_reading_in_words() -> None:
    digits, small = "영일이삼사오육칠팔구", ["", "십", "백", "천"]
    for number in range(10_000):
        spoken = "".join(
            digits[int(d)] + small[power]
            for power, d in zip(range(3, -1, -1), f"{number:04d}", strict=True)
            if d != "0"
        )
        assert word_ending(str(number)) == word_ending(spoken or "영"), number


def test_an_unknown_particle_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        with_particle("셔츠", "을/를/")
    assert all(len(forms) == 3 for forms in PARTICLES.values())
