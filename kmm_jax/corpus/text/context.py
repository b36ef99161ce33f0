"""The words around a number that say what it is, and one shape for the characters in it."""

from __future__ import annotations

import re

_DASHES = "‐‑‒–—―−－﹣ㅡ~∼～"
_DOTS = "·•‧∙ㆍ・．․"
_FOLD = {ord(dash): "-" for dash in _DASHES[:10]} | {ord(dot): "." for dot in _DOTS}
_FOLD |= {0xFF01 + place: chr(0x21 + place) for place in range(94) if place != 0x0D}
_FOLD |= {0x2460 + place: str(place + 1) for place in range(9)} | {0x24EA: "0"}
_OTHER = re.compile(f"[{''.join(map(chr, _FOLD))}]")

_NAMES = (
    "주문|접수|예약|승인|거래|상품|제품|물품|품번|품목|모델|코드|바코드|isbn|사업자|법인|계좌|쿠폰|시리얼|"
    "일련|고유|관리|문서|등록증|부품|파트|s/n|sku|ean|upc|model|order|serial|part|coupon"
)
_TAIL = r"\s?(?:등록)?\s?(?:번호|명|코드|넘버|number|no)?\.?\s?(?:은|는|이|가)?[\s:.#=(\[]{0,3}$"
_ANOTHER = re.compile(rf"(?:{_NAMES}){_TAIL}", re.IGNORECASE)
_ANOTHER_NUMBER = re.compile(
    rf"(?:(?:{_NAMES})\s?(?:등록)?\s?(?:번호|명|코드|넘버|number|no)|품번|바코드|isbn|s/n|sku|ean)"
    r"\.?\s?(?:은|는|이|가)?[\s:.#=(\[]{0,3}$",
    re.IGNORECASE,
)
_REACH = 16


def fold(text: str) -> str:
    """``text``, character for character, with full-width forms, dashes and dots of ASCII."""
    if text.isascii() or not _OTHER.search(text):
        return text
    return text.translate(_FOLD)


def before(text: str, at: int) -> str:
    """What stands in front of ``at``, as far as it can name what follows."""
    return text[max(0, at - _REACH) : at]


def is_named_otherwise(text: str, at: int) -> bool:
    """Whether the words right before ``at`` name another kind of number (주문번호, 품번)."""
    return _ANOTHER.search(before(text, at)) is not None


def is_another_number(text: str, at: int) -> bool:
    """The same, where only a name with 번호, 코드 or the like counts: 주문 010-... is a phone."""
    return _ANOTHER_NUMBER.search(before(text, at)) is not None
