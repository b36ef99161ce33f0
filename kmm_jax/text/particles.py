"""Korean particles after any word: 셔츠를 but 코트와 구두를, USB를, 10을, "니트"를.

Which form follows depends on how the word ends when read aloud: with a final consonant (받침),
without one, or with ㄹ, after which 으로 loses its vowel (서울로). Hangul says so itself; digits
and Latin letters are read the Korean way.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from kmm_jax.errors import ConfigError, nearest

Ending = Literal["vowel", "consonant", "rieul"]

PARTICLES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        # pair: (after a consonant, after a vowel, both when the reading is unknown)
        "은/는": ("은", "는", "은(는)"),
        "이/가": ("이", "가", "이(가)"),
        "을/를": ("을", "를", "을(를)"),
        "과/와": ("과", "와", "과(와)"),
        "으로/로": ("으로", "로", "(으)로"),
        "이나/나": ("이나", "나", "(이)나"),
        "이랑/랑": ("이랑", "랑", "(이)랑"),
        "이라는/라는": ("이라는", "라는", "(이)라는"),
        "이에요/예요": ("이에요", "예요", "이에요(예요)"),
        "이다/다": ("이다", "다", "(이)다"),
    }
)

_DIGIT_ENDINGS: tuple[Ending, ...] = (
    "consonant",  # 영
    "rieul",  # 일
    "vowel",  # 이
    "consonant",  # 삼
    "vowel",  # 사
    "vowel",  # 오
    "consonant",  # 육
    "rieul",  # 칠
    "rieul",  # 팔
    "vowel",  # 구
)

# 경, 조, 억, 만, 천, 백, 십, by the zeros at the end of the number.
_UNIT_ENDINGS: tuple[tuple[int, Ending], ...] = (
    (16, "consonant"),
    (12, "vowel"),
    (8, "consonant"),
    (4, "consonant"),
    (3, "consonant"),
    (2, "consonant"),
    (1, "consonant"),
)

_LETTER_ENDINGS: Mapping[str, Ending] = {
    "L": "rieul",
    "R": "rieul",
    "M": "consonant",
    "N": "consonant",
}

_MEASURE_ENDINGS: Mapping[str, Ending] = {
    "cm": "vowel",  # 센티미터
    "mm": "vowel",
    "km": "vowel",
    "m": "vowel",
    "ml": "vowel",  # 밀리리터
    "l": "vowel",
    "kg": "consonant",  # 킬로그램
    "mg": "consonant",
    "g": "consonant",
    "%": "vowel",  # 퍼센트
    "℃": "vowel",  # 도
    "°": "vowel",
}

_NUMBER_AND_MEASURE = re.compile(r"\d\s*(cm|mm|km|ml|kg|mg|m|l|g|%|℃|°)$", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d,]*(\.\d+)?$")
_LATIN_WORD = re.compile(r"[A-Za-z]+$")
_RIEUL_FINAL = 8


def with_particle(word: str, pair: str) -> str:
    """``word`` with the form of the particle ``pair`` (a key of ``PARTICLES``) that fits it.

    Quotation marks and brackets at the end are looked through: ``"니트"를``. English words follow
    a rule of thumb for their Korean spelling (jacket, 재킷: consonant). A word whose reading cannot
    be known (Chinese characters, emoji) takes both forms, as Korean print does: 漢字을(를).

    Raises:
        ConfigError: no such pair.
    """
    try:
        after_consonant, after_vowel, unknown = PARTICLES[pair]
    except KeyError:
        raise ConfigError(f"no particle {pair!r}{nearest(pair, PARTICLES)}") from None
    ending = word_ending(word)
    if ending is None:
        return word + unknown
    if ending == "vowel" or (ending == "rieul" and pair == "으로/로"):
        return word + after_vowel
    return word + after_consonant


def word_ending(word: str) -> Ending | None:
    """How ``word`` ends when read in Korean; None where the reading cannot be known."""
    word = unicodedata.normalize("NFC", word)
    if match := _NUMBER_AND_MEASURE.search(word):
        return _MEASURE_ENDINGS[match[1].lower()]
    while word and unicodedata.category(word[-1])[0] in "PZC":
        word = word[:-1]
    if not word:
        return None
    last = word[-1]
    if "가" <= last <= "힣":
        final = (ord(last) - ord("가")) % 28
        return "vowel" if final == 0 else "rieul" if final == _RIEUL_FINAL else "consonant"
    if "ㄱ" <= last <= "ㅎ":  # read by name: 기역, 니은, 리을
        return "rieul" if last == "ㄹ" else "consonant"
    if "ㅏ" <= last <= "ㅣ":
        return "vowel"
    if match := _NUMBER.search(word):
        return _number_ending(match[0])
    if match := _LATIN_WORD.search(word):
        return _latin_ending(match[0])
    return None


def _number_ending(number: str) -> Ending:
    digits = number.replace(",", "")
    zeros = len(digits) - len(digits.rstrip("0"))
    # Behind the point, and in a number of zeros only, digits are read one by one.
    if "." not in digits and zeros < len(digits):
        for power, ending in _UNIT_ENDINGS:
            if zeros >= power:
                return ending
    return _DIGIT_ENDINGS[int(digits[-1])]


def _latin_ending(word: str) -> Ending:
    if word.isupper():  # USB, TV, XL: letter by letter
        return _LETTER_ENDINGS.get(word[-1], "vowel")
    word = word.lower()
    if len(word) == 1:
        return _LETTER_ENDINGS.get(word.upper(), "vowel")
    if re.search(r"le?$", word):  # 스타일, 애플
        return "rieul"
    if re.search(r"(m|n|ng|[aeiou]me|[aeiou]ne)$", word):  # 크림, 폰, 링
        return "consonant"
    # After one short vowel a stop closes the syllable: 캡, 재킷, 블랙, 베이직; but 코트, 지프.
    if re.search(r"(^|[^aeiou])[aeiou](ck|[cptb])$|ook$", word):
        return "consonant"
    return "vowel"
