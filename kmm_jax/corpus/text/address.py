"""Street addresses: road names (도로명) and lots (지번), by the administrative names before them.

Many Korean words end like a road (으로, 마음대로, 골목길) or a neighbourhood; a house number
after a province, city, county or district is what makes an address, and a counter after it
(3분, 5곳) unmakes it. Names of places: ``lists/regions.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def _names() -> list[list[str]]:
    """Provinces, cities, counties, districts: the parts of ``lists/regions.txt``."""
    parts: list[list[str]] = []
    for line in (
        Path(__file__).with_name("lists").joinpath("regions.txt").read_text("utf-8").splitlines()
    ):
        if line.startswith("#"):
            parts.append([])
        else:
            parts[-1] += line.split()
    return [part for part in parts if part]


_PROVINCES, _CITIES, _COUNTIES, _DISTRICTS = _names()
_ENDINGS = ("도", "시", "특별시", "광역시", "특별자치시", "특별자치도")
_REGIONS = frozenset(
    [*_PROVINCES]
    + [f"{name}{ending}" for name in _PROVINCES for ending in _ENDINGS]
    + [f"{name}시" for name in _CITIES]
    + [f"{name}군" for name in _COUNTIES]
    + [f"{name}구" for name in _DISTRICTS]
)  # fmt: skip
_BARE_CITIES = frozenset(_CITIES) - {"고양", "광명", "공주", "상주", "동해", "사천", "논산", "구미"}
_LOCAL = re.compile(r"[가-힣0-9]{1,8}(?:읍|면|동|가|리)")
_RUN_TOGETHER = re.compile(
    r"(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충[북남]|전[북남]|경[북남]|제주)"
    r"(?:특별자치|특별|광역)?[시도]?(?:[가-힣]{1,5}?[시군구]){1,2}(?=[가-힣0-9])"
)

# 에 and 로 follow addresses; every other syllable behind the number counts something.
_END = (
    r"(?![0-9A-Za-z%]|[-.,:~/][0-9])"
    r"(?=번지|에서?(?![가-힣]*\d)|[으]?로\s|으로|의\s|이며|이고|이에요|예요|입니다|인데|이?라고|[^가-힣]|$)"
    r"(?!\s?(?:분|시간|개|명|원|년|월|일|위|대|만|억|평|층|곳|호점|호선|번째|번\s?출구|km|m\b|호\s|"
    r"차선|세\s|살|주년|가지|배\s|회|차\s))"
)
_DETAIL = r"(?:번지)?(?:,? ?(?:[가-힣A-Za-z]{0,10} ?\d{1,4}동 ?)?\d{1,5}호(?![가-힣]))?"
_ROAD = re.compile(
    r"([가-힣A-Za-z0-9.]{1,20}?(?:대로|로|길)(?: ?\d{1,4}[가-힣]?(?:번)?길)?)"
    rf" ?((?:지하 ?)?\d{{1,5}}(?:-\d{{1,4}})?){_END}{_DETAIL}"
)
_LOT = re.compile(
    r"((?:[가-힣]{1,8}|[가-힣]{1,6}\d{1,2})(?:동|리|가|읍|면))"
    rf" ?((?:산 ?)?\d{{1,5}}(?:-\d{{1,4}})?){_END}{_DETAIL}"
)
_FLAT = re.compile(r"(?<![0-9가-힣A-Za-z])(\d{3,4})동 ?\d{3,4}호(?![가-힣0-9선])")
_NO_ROAD = re.compile(
    r".*(?:으로|[^가-힣]로|그대로|제대로|마음대로|때로|[출퇴]근길|여행길|골목길|산책길|둘레길|귀[성경]길|등산로|[하등]굣길)"
    r"|바로|새로|따로|서로|주로|별로|홀로|진짜로|위로|아래로|앞로|뒤로|시내로|택시로|버스로|기차로|차로|도로|꽃길|눈길|"
    r"빗길|밤길|갈림길|지름길|나들이길"
)
_YEARS = range(1900, 2100)
_FARTHEST = 40


def addresses(text: str) -> Iterator[tuple[int, int]]:
    """From the first administrative name to the house number."""
    for found in _ROAD.finditer(text):
        if not _NO_ROAD.fullmatch(found[1]):
            start = _start(text, found, strict="길" not in found[1])
            if start is not None:
                yield start, found.end()
    for found in _LOT.finditer(text):
        number = found[2]
        # 역삼동 2024 is a year and a place unless more is said.
        plain = number.isdigit() and "번지" not in found[0]
        if plain and int(number) in _YEARS:
            continue
        start = _start(text, found, strict=plain)
        if start is not None:
            yield start, found.end()
    for found in _FLAT.finditer(text):
        yield found.span()


def _start(text: str, found: re.Match[str], *, strict: bool) -> int | None:
    """Where the names before the road or lot begin; None where none of them is administrative.

    Strict: a bare province or city alone (부산 앞바다로 3) is not enough.
    """
    together = _RUN_TOGETHER.match(found[1])
    start: int | None = found.start() if together else None
    firm = together is not None
    at = found.start()
    while at > 0 and found.start() - at < _FARTHEST and text[at - 1] in " ,":
        end = len(text[:at].rstrip(" ,"))
        begin = max(text.rfind(" ", 0, end), text.rfind(",", 0, end)) + 1
        token = text[begin:end].lstrip("([{<'\"/:-")
        begin = end - len(token)
        if not token:
            break
        if token in _REGIONS or _RUN_TOGETHER.fullmatch(token + "가"):
            start = begin
            firm = firm or token not in _PROVINCES
        elif token in _BARE_CITIES:
            start = begin
        elif not _LOCAL.fullmatch(token):
            # 배송지:서울 and 위치는서울 hide the first name behind other letters
            long = (name for name in _REGIONS if len(name) > 2)
            tail = next((name for name in long if token.endswith(":" + name)), "")
            if tail:
                start, firm = end - len(tail), True
            break
        at = begin
        if at and text[at - 1] not in " ,":
            break
    return start if start is not None and (firm or not strict or "-" in found[2]) else None
