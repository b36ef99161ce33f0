"""Numbers of people: resident, licence, passport, phone, parcel and card numbers in Korean text.

Finders take folded text (``context.fold``) and yield [start, end). Where a number of the same shape
has a check digit or a name before it (주문번호, ISBN), that decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from kmm_jax.corpus.text import checks
from kmm_jax.corpus.text.context import before, is_another_number, is_named_otherwise

Finder = Callable[[str], Iterator[tuple[int, int]]]

_LEFT = r"(?<![0-9A-Za-z])(?<![0-9][-.])"
_RIGHT = r"(?![0-9A-Za-z]|[-.][0-9])"
_NOT_DIGIT = re.compile(r"\D")

_RESIDENT = re.compile(rf"{_LEFT}\d{{6}}( ?- ?| ?)[1-8]\d{{6}}{_RIGHT}")
_RESIDENT_NAMED = re.compile(r"주민|외국인\s?등록|거소\s?신고|생년월일")


def resident_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Six digits of a real birthday, a marker, six more.

    Without a name (주민번호 ...) the check digit must be right; only with a dash, and for people
    born since October 2020, who have none, is the birthday enough.
    """
    for found in _RESIDENT.finditer(text):
        digits = _NOT_DIGIT.sub("", found[0])
        day = checks.birthday(digits)
        if day is None:
            continue
        if not _RESIDENT_NAMED.search(before(text, found.start())):
            if is_named_otherwise(text, found.start()):
                continue
            if found[1]:
                proven = checks.resident(digits) or (
                    "-" in found[1] and digits[6] in "3478" and checks.may_lack_check_digit(day)
                )
            else:
                barcode = digits.startswith(("880", "978", "979")) and checks.ean13(digits)
                proven = checks.resident(digits) and not barcode
            if not proven:
                continue
        yield found.span()


_REGIONS = "서울|부산|경기|강원|충북|충남|전북|전남|경북|경남|제주|대구|인천|광주|대전|울산"
_LICENCE = re.compile(
    rf"(?:(?<![가-힣])(?:{_REGIONS})[- ]?|{_LEFT}(?:1[1-9]|2[0-6]|28)[- ])"
    rf"\d{{2}}[- ]\d{{6}}[- ]\d{{2}}{_RIGHT}"
)
_LICENCE_BARE = re.compile(
    rf"면허(?:증|\s?번호)?[은는\s:.(]{{0,4}}((?:1[1-9]|2[0-6]|28)\d{{10}}){_RIGHT}"
)


def driver_licenses(text: str) -> Iterator[tuple[int, int]]:
    """Region (code or name), year, six digits, two; without dashes only after the word 면허."""
    for found in _LICENCE.finditer(text):
        if not is_another_number(text, found.start()):
            yield found.span()
    for found in _LICENCE_BARE.finditer(text):
        yield found.span(1)


_PASSPORT = re.compile(
    r"(?<![A-Za-z0-9-])[MSRODGmsrodg](?:\d{8}|\d{3}[A-Za-z]\d{4})(?![A-Za-z0-9]|-[A-Za-z0-9])"
)
_PASSPORT_NAMED = re.compile(r"여권|passport", re.IGNORECASE)


def passports(text: str) -> Iterator[tuple[int, int]]:
    """M12345678 and, since 2020, M123A4567; the rarer S, R, O, D, G after 여권 only."""
    for found in _PASSPORT.finditer(text):
        named = _PASSPORT_NAMED.search(before(text, found.start()))
        plain = found[0][0] == "M" and not is_named_otherwise(text, found.start())
        if named or plain:
            yield found.span()


_SEP = r"(?: ?[-.)] ?| )"
_AREA = r"(?:02|0(?:3[1-3]|4[1-4]|5[1-5]|6[1-4]))"
_PHONE_LEFT = r"(?<![0-9])(?<![0-9][-.])"
_PHONE = re.compile(
    rf"{_PHONE_LEFT}(?:"
    rf"\(?010\)?{_SEP}?\d{{4}}{_SEP}?\d{{4}}"
    rf"|01[16789]{_SEP}\d{{3,4}}{_SEP}\d{{4}}"
    rf"|(?:\({_AREA}\) ?|{_AREA}{_SEP})\d{{3,4}}{_SEP}\d{{4}}"
    rf"|0(?:70|[356]0\d?|80){_SEP}\d{{3,4}}{_SEP}\d{{4}}"
    rf"|0(?:70|50\d)\d{{8}}"
    rf"){_RIGHT}"
)
_PHONE_BARE = re.compile(rf"{_PHONE_LEFT}(?:{_AREA}[1-9]\d{{6,7}}|01[16789]\d{{7,8}}){_RIGHT}")
_SERVICE = re.compile(
    rf"{_PHONE_LEFT}(1(?:5(?:22|33|44|66|77|88|99)|6(?:00|44|61|66|68|70|88)"
    rf"|8(?:00|11|33|55|66|77|99)))(-| |)(\d{{4}}){_RIGHT}"
)
_ABROAD = re.compile(
    r"(?:\+ ?82|(?<![0-9.-])0082|(?<![0-9.+-])82(?=[-) ]))[-. )]{0,3}(?:\(0\) ?|0)?"
    rf"(?:1[016789]|2|[356]\d|4[1-4]|70|50\d)[-. )]{{0,3}}\d{{3,4}}[-. ]?\d{{4}}{_RIGHT}"
)
_PHONE_NAMED = re.compile(
    r"전화|연락|문의|대표|고객|상담|번호|콜센터|팩스|☎|☏|tel|fax|phone|call|h\.?p", re.IGNORECASE
)
_LETTER_BEFORE = re.compile(r"(?:tel|fax|phone|mobile|call|hp|h\.p|[tfmhpc])[.:]?$", re.IGNORECASE)
_SPOKEN = re.compile(
    r"(?<![0-9공영일이삼사오육칠팔구])[0공영oO] ?[1일lI] ?[0공영oO]"
    r"(?:[-. ]{0,3}[0-9공영일이삼사오육칠팔구oOlI]){8}(?![0-9공영일이삼사오육칠팔구A-Za-z])"
)
_LONGEST_REIGN = 120


def phones(text: str) -> Iterator[tuple[int, int]]:
    """Mobile, landline, 070, 050, 080, 1588-type and +82 numbers."""
    for found in _PHONE.finditer(text):
        start = found.start()
        if is_another_number(text, start) or not _may_start(text, start):
            continue
        if text[start] == "(" and ")" not in found[0]:
            start += 1  # the parenthesis is the sentence's
        yield start, found.end()
    for found in _PHONE_BARE.finditer(text):
        start, digits = found.start(), found[0]
        if is_named_otherwise(text, start) or not _may_start(text, start):
            continue
        named = _PHONE_NAMED.search(before(text, start)) is not None
        book = len(digits) == 10 and checks.isbn10(digits)
        if named or (digits[1] != "1" and not book):
            yield found.span()
    for found in _SERVICE.finditer(text):
        if not is_another_number(text, found.start()) and _is_service(text, found):
            yield found.span()
    for found in _ABROAD.finditer(text):
        yield found.span()


def spelled_phones(text: str) -> Iterator[tuple[int, int]]:
    """Mobile numbers with some digits as words or as letters (공일공, O1O), or one by one."""
    for found in _SPOKEN.finditer(text):
        # One letter before a run of digits (내공1000...) is a word's.
        if len(_NOT_DIGIT.findall(found[0])) > 1:
            yield found.span()


def _may_start(text: str, at: int) -> bool:
    """A letter before a number makes it a code, unless it says that a phone number comes."""
    ahead = text[max(0, at - 7) : at]
    is_letter = ahead[-1:].isascii() and ahead[-1:].isalnum()
    return not is_letter or _LETTER_BEFORE.search(ahead) is not None


def _is_service(text: str, found: re.Match[str]) -> bool:
    named = _PHONE_NAMED.search(before(text, found.start())) is not None
    if found[2] != "-":
        return named
    first, second = int(found[1]), int(found[3])
    years = first < second <= first + _LONGEST_REIGN  # 1544-1610 lived longer than it rang
    unit = text[found.end() : found.end() + 1] in ("년", "원", "개", "대")
    return (named or not years) and not unit


_PARCEL = re.compile(rf"{_LEFT}(?:\d{{10,14}}|\d{{3,6}}(?:[- ]\d{{3,6}}){{1,3}}){_RIGHT}")
_CARRIERS = (
    "대한통운|한진택배|롯데택배|우체국|로젠|경동택배|대신택배|합동택배|일양|천일택배|건영택배|"
    "편의점택배|반값택배"
)
_PARCEL_BEFORE = re.compile(
    rf"(?:운\s?송장|송장|등기(?!부)|택배|배송\s?조회|배송\s?번호|{_CARRIERS}|tracking|waybill)"
    r"[^\d\n]{0,12}$",
    re.IGNORECASE,
)
_PARCEL_AFTER = re.compile(
    rf"\s?번?[\s(\[]{{0,2}}(?:운송장|송장|등기(?!부)|cj|{_CARRIERS})", re.IGNORECASE
)
_POSTAL = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2} ?(\d{9}) ?[A-Z]{2}(?![A-Za-z0-9])")


def tracking_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Ten to fourteen digits beside a carrier or a word for waybill; UPU S10 by its check digit."""
    for found in _POSTAL.finditer(text):
        if checks.s10(found[1]):
            yield found.span()
    for found in _PARCEL.finditer(text):
        if not 10 <= len(_NOT_DIGIT.sub("", found[0])) <= 14:
            continue
        ahead = text[max(0, found.start() - 24) : found.start()]
        named = _PARCEL_BEFORE.search(ahead) or _PARCEL_AFTER.match(text, found.end())
        if named and not is_another_number(text, found.start()):
            yield found.span()


_CARD = re.compile(
    rf"{_LEFT}(?:\d{{4}}(?: ?[-. ] ?|)\d{{4}}(?: ?[-. ] ?|)\d{{4}}(?: ?[-. ] ?|)\d{{4}}"
    rf"|3[47]\d{{2}}[-. ]?\d{{6}}[-. ]?\d{{5}}|3[0689]\d{{2}}[-. ]?\d{{6}}[-. ]?\d{{4}}"
    rf"|62\d{{15,17}}){_RIGHT}"
)


def card_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Groups or one run of digits with an issuer's prefix and a right check digit."""
    for found in _CARD.finditer(text):
        is_card = checks.is_card(_NOT_DIGIT.sub("", found[0]))
        if is_card and not is_named_otherwise(text, found.start()):
            yield found.span()
