"""Personal data and what looks like it, made from how the numbers are issued and not from patterns.

Every case is one Korean line with at most one value; ``reason`` is None for a near miss. Values are
put together digit by digit (issuer, date, serial, check digit), so that this file knows the
issuing rules and nothing of how they are found. Seed 1 is for development, seed 2 for reporting.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.corpus.text import issued, near_misses, places

DEVELOPMENT_SEED, REPORTING_SEED = 1, 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """``text`` holds personal data of kind ``reason`` at [start, end), or none."""

    text: str
    reason: str | None
    start: int
    end: int
    kind: str


# The slot stands for the value; nothing in these lines is personal data of its own.
ANYWHERE = (
    "{}",
    "문의 {}",
    "판매합니다 {} 연락주세요",
    "여기로 보내 주세요: {}",
    "({}) 확인 부탁드립니다",
    "제 정보는 {}입니다",
    "어제 잃어버린 지갑에 {} 적혀 있어요",
    "[급구] {} / 빠른 답변",
    "네이버 카페에서 보고 {} 남깁니다.",
    "원피스 교환 관련 {}",
    "{}, 감사합니다",
    "아이폰 케이스 3개 구매 {} 부탁",
    "👉 {} 👈",
)


TRACKING_LINES = (
    "운송장번호 {}",
    "송장번호: {} 확인 부탁",
    "운송장 {} 배송조회 안돼요",
    "CJ대한통운 {}",
    "한진택배 {} 조회",
    "롯데택배 송장 {}",
    "우체국택배 등기번호 {}",
    "로젠택배 {}로 보냈습니다",
    "등기 {} 발송했어요",
    "택배 송장번호는 {} 입니다",
    "대한통운 운송장번호({})",
)


@dataclass(frozen=True, kw_only=True)
class _Source:
    reason: str
    kind: str
    build: Callable[[random.Random], str]
    share: int
    lines: tuple[str, ...] = ANYWHERE


_NUMBER_LINES = {
    "resident": ("주민등록번호 {}", "주민번호: {} 입니다", "외국인등록번호 {}", *ANYWHERE),
    "licence": ("운전면허 {}", "면허번호: {}", *ANYWHERE),
    "passport": ("여권번호 {}", "여권 {} 분실", "passport no. {}", *ANYWHERE),
    "phone": (
        "TEL {}",
        "H.P {}",
        "☎{}",
        "전화번호는 {}예요",
        "고객센터 {}",
        "카톡이나 {}로 연락",
        *ANYWHERE,
    ),
    "card": ("카드번호 {}", "결제 카드 {} 유효기간 12/28", *ANYWHERE),
    "address": ("배송지: {}", "{}에서 만나요", "매장 위치 {} 주차 가능", "{} 앞", *ANYWHERE),
}

SOURCES = (
    _Source(
        reason="resident_number",
        kind="resident",
        build=issued.resident_number,
        share=8,
        lines=_NUMBER_LINES["resident"],
    ),
    _Source(
        reason="resident_number",
        kind="resident, new",
        build=issued.new_resident_number,
        share=3,
        lines=_NUMBER_LINES["resident"],
    ),
    _Source(
        reason="driver_license",
        kind="licence",
        build=issued.licence,
        share=8,
        lines=_NUMBER_LINES["licence"],
    ),
    _Source(
        reason="passport",
        kind="passport",
        build=issued.passport,
        share=8,
        lines=_NUMBER_LINES["passport"],
    ),
    _Source(
        reason="phone", kind="mobile", build=issued.mobile, share=6, lines=_NUMBER_LINES["phone"]
    ),
    _Source(
        reason="phone",
        kind="old mobile",
        build=issued.old_mobile,
        share=2,
        lines=_NUMBER_LINES["phone"],
    ),
    _Source(
        reason="phone",
        kind="landline",
        build=issued.landline,
        share=5,
        lines=_NUMBER_LINES["phone"],
    ),
    _Source(
        reason="phone",
        kind="070, 050, 1588",
        build=issued.other_phone,
        share=4,
        lines=_NUMBER_LINES["phone"],
    ),
    _Source(
        reason="phone",
        kind="international",
        build=issued.international,
        share=3,
        lines=_NUMBER_LINES["phone"],
    ),
    _Source(
        reason="phone",
        kind="spelled",
        build=issued.spelled_phone,
        share=2,
        lines=_NUMBER_LINES["phone"],
    ),
    _Source(
        reason="tracking_number",
        kind="parcel",
        build=issued.tracking,
        share=8,
        lines=TRACKING_LINES,
    ),
    _Source(
        reason="tracking_number", kind="ems", build=issued.ems, share=2, lines=("EMS {}", *ANYWHERE)
    ),
    _Source(
        reason="card_number", kind="card", build=issued.card, share=7, lines=_NUMBER_LINES["card"]
    ),
    _Source(
        reason="card_number", kind="amex", build=issued.amex, share=2, lines=_NUMBER_LINES["card"]
    ),
    _Source(
        reason="address",
        kind="road",
        build=places.road_address,
        share=7,
        lines=_NUMBER_LINES["address"],
    ),
    _Source(
        reason="address",
        kind="lot",
        build=places.lot_address,
        share=5,
        lines=_NUMBER_LINES["address"],
    ),
    _Source(reason="email", kind="email", build=issued.email, share=7),
    _Source(reason="url", kind="url", build=issued.url, share=7),
)


def _place(rng: random.Random, lines: tuple[str, ...], value: str) -> tuple[str, int]:
    before, _, after = rng.choice(lines).partition("{}")
    return before + value + after, len(before)


def cases(seed: int, count: int = 8000) -> Iterator[Case]:
    """``count`` cases, half of them near misses; equal for equal arguments."""
    rng = random.Random(seed)
    for _ in range(count // 2):
        source = rng.choices(SOURCES, [source.share for source in SOURCES])[0]
        value = source.build(rng)
        text, start = _place(rng, source.lines, value)
        yield Case(
            text=text, reason=source.reason, start=start, end=start + len(value), kind=source.kind
        )
    for _ in range(count - count // 2):
        kind, build, lines = rng.choice(near_misses.SOURCES)
        value = build(rng)
        lines = (*lines, *ANYWHERE) if lines is not near_misses.OWN else ("{}", "{} 추천", "[{}]")
        text, start = _place(rng, lines, value)
        yield Case(text=text, reason=None, start=start, end=start + len(value), kind=kind)
