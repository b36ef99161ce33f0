"""Which characters a text is made of: letters of other languages, and too few of Korean."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Blocks, not Unicode categories: digits and marks of a script say its language as well.
_HANJA = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HIRAGANA = "\u3041-\u3096"
_OTHER = (
    "\u0370-\u10ff\u1200-\u1cff\u1e02-\u1eff\u1f00-\u1fff\u2c00-\u2dff\u30a1-\u30fa\u30fd-\u312f"
    "\u31a0-\u31ff\ua000-\ua95f\ua980-\uabff\ufb1d-\ufdff\ufe70-\ufefc\uff66-\uff9d"
    "\U00010000-\U0001cfff\U0001e000-\U0001efff"
)
_ACCENTED = "\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_MANY_ACCENTS = 3

# One letter alone is a sign (플러스α, 10μm) or part of a face (´Д`); one kana or Hanja is a word.
_FOREIGN = f"[{_OTHER}][{_OTHER}ー]+"
_KANA = f"[{_HIRAGANA}{_OTHER}]*[{_HIRAGANA}][{_HIRAGANA}{_OTHER}ー]*"
_CHINESE = f"[{_HIRAGANA}{_OTHER}]*[{_HIRAGANA}{_HANJA}][{_HIRAGANA}{_OTHER}{_HANJA}ー]*"
_WITHOUT_HANJA = re.compile(f"{_KANA}|{_FOREIGN}")
_WITH_HANJA = re.compile(f"{_CHINESE}|{_FOREIGN}")
_ACCENTS = re.compile(f"[{_ACCENTED}]")

_NOT_PROSE = re.compile(r"[^\s0-9가-힣A-Za-z]")
_LATIN = re.compile(r"[A-Za-z]")
_HANGUL = re.compile("[가-힣ㄱ-ㆎ\u1100-\u11ff]")
_HANJA_LETTER = re.compile(f"[{_HANJA}{_HIRAGANA}{_OTHER}]")


def foreign(text: str, *, hanja: bool) -> Iterator[tuple[int, int]]:
    """Runs of letters that neither Korean nor English has.

    Languages written in plain Latin letters pass: a word of German is not told from English. Three
    or more accented letters do not pass.
    """
    if text.isascii():
        return
    for found in (_WITHOUT_HANJA if hanja else _WITH_HANJA).finditer(text):
        yield found.span()
    accents = list(_ACCENTS.finditer(text))
    if len(accents) >= _MANY_ACCENTS:
        for found in accents:
            yield found.span()


def symbol_share(text: str, *, count_latin: bool) -> float:
    """Lone jamo, symbols and (``count_latin``) Latin letters among all characters but spaces."""
    size = len(text) - text.count(" ")
    if not size:
        return 0.0
    count = len(_NOT_PROSE.findall(text))
    if count and not text.isascii():
        count -= len(_HANJA_LETTER.findall(text))
    if count_latin:
        count += len(_LATIN.findall(text))
    return count / size


def hangul_share(text: str) -> float:
    """Hangul among all letters, 0 to 1; digits and signs are no letters, and no letters give 0."""
    hangul = len(_HANGUL.findall(text))
    return hangul / sum(map(str.isalpha, text)) if hangul else 0.0
