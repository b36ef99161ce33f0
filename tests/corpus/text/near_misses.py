"""Numbers and words that look like personal data and are none, each kind made by its own rule."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.corpus.text import places

OWN: tuple[str, ...] = ()
"""The value is a whole title: it goes into no carrier line."""


def _digits(rng: random.Random, count: int, first: str = "123456789") -> str:
    return rng.choice(first) + "".join(rng.choice("0123456789") for _ in range(count - 1))


def _letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("ABCEFGHJKLNPTUVWXYZ") for _ in range(count))


def _date(rng: random.Random) -> str:
    year, month, day = rng.randint(1950, 2026), rng.randint(1, 12), rng.randint(1, 28)
    hour, minute = rng.randint(0, 23), rng.randint(0, 59)
    return rng.choice(
        [
            f"{year}-{month:02d}-{day:02d}",
            f"{year}.{month:02d}.{day:02d}",
            f"{year}/{month}/{day}",
            f"{year}{month:02d}{day:02d}",
            f"{year % 100:02d}{month:02d}{day:02d}",
            f"{year}년 {month}월 {day}일",
            f"{year}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:00",
            f"{year}{month:02d}{day:02d}{hour:02d}{minute:02d}",
            f"{year}-{year + rng.randint(1, 3)}",
            f"{year}.{month:02d}.{day:02d}~{year}.{month:02d}.{day + 1:02d}",
        ]
    )


def _history(rng: random.Random) -> str:
    born = rng.randint(1500, 1890)
    who = rng.choice(["이순신", "율곡 이이", "화가", "조선"])
    return f"{who} ({born}-{born + rng.randint(20, 90)})"


def _price(rng: random.Random) -> str:
    amount = rng.randint(100, 9_999_999) * 10
    return rng.choice(
        [
            f"{amount:,}원",
            f"{amount}원",
            f"₩{amount:,}",
            f"{amount / 100:.2f}달러",
            f"{amount:,}~{amount * 2:,}원",
        ]
    )


def _version(rng: random.Random) -> str:
    parts = [str(rng.randint(0, 40)) for _ in range(rng.randint(2, 4))]
    return (
        rng.choice(["v", "", "버전 ", "ver."])
        + ".".join(parts)
        + rng.choice(["", f".{rng.randint(1000, 99999)}"])
    )


def _product_code(rng: random.Random) -> str:
    return rng.choice(
        [
            f"{_letters(rng, 2)}-{_digits(rng, 4)}",
            f"{_letters(rng, 3)}{_digits(rng, 5)}-{_digits(rng, 3)}",
            f"{_letters(rng, 2)}{_digits(rng, 8)}",
            f"{_letters(rng, 1)}{_digits(rng, 6)}",
            f"NO.{_digits(rng, 6)}",
            f"#{_digits(rng, 7)}",
            f"{_digits(rng, 3)}{_letters(rng, 2)}{_digits(rng, 3)}",
            f"{_letters(rng, 2)}{_digits(rng, 2)}-{_digits(rng, 3)}-{_digits(rng, 4)}",
        ]
    )


def _order(rng: random.Random) -> str:
    """With its name: without one, nobody could tell some of these from other numbers."""
    day = f"{rng.randint(2015, 2026)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}"
    number = rng.choice(
        [
            day + _digits(rng, 7),
            day + "-" + _digits(rng, 7),
            day[2:] + "-" + _digits(rng, 7),
            _digits(rng, 16),
            _digits(rng, 10),
        ]
    )
    return (
        rng.choice(["주문번호 ", "주문번호: ", "주문 번호는 ", "접수번호 ", "예약번호 "]) + number
    )


def _ean(rng: random.Random) -> str:
    body = rng.choice(["880", "880", "880", "690", "400", "093"]) + _digits(rng, 9, "0123456789")
    total = sum(int(s) * (3 if place % 2 else 1) for place, s in enumerate(body))
    return body + str(-total % 10)


def _isbn(rng: random.Random) -> str:
    body = "979" + "11" + _digits(rng, 7) if rng.random() < 0.5 else "978" + "89" + _digits(rng, 7)
    total = sum(int(s) * (3 if place % 2 else 1) for place, s in enumerate(body))
    number = body + str(-total % 10)
    return rng.choice(
        [
            f"ISBN {number}",
            number,
            f"{number[:3]}-{number[3:5]}-{number[5:9]}-{number[9:12]}-{number[12]}",
        ]
    )


def _model(rng: random.Random) -> str:
    return rng.choice(
        [
            f"SM-{_letters(rng, 1)}{_digits(rng, 3)}N",
            f"LG {_digits(rng, 2)}UP{_digits(rng, 3)}",
            f"RTX {rng.choice([3060, 4070, 5090])}",
            f"모델명 M{_digits(rng, 8)}",
            f"품번 M{_digits(rng, 3)}A{_digits(rng, 4)}",
            f"WF{_digits(rng, 2)}T{_digits(rng, 4)}KW",
            f"MX{_digits(rng, 8)}",
            f"AM{_digits(rng, 3)}B{_digits(rng, 4)}",
            f"DDR5-{rng.choice([4800, 5600, 6400])}",
            f"{_letters(rng, 1)}{_digits(rng, 2)}-{_digits(rng, 2)}-{_digits(rng, 6)}",
        ]
    )


def _size(rng: random.Random) -> str:
    a, b, c = (rng.randint(10, 2400) for _ in range(3))
    return rng.choice(
        [
            f"{a}x{b}x{c}mm",
            f"{a}*{b}*{c}",
            f"{a}×{b}cm",
            f"{a}-{b}-{c}",
            f"0{a % 90 + 10}-{b}mm",
            f"{a}/{b}/{c}",
            "220-230-240-250",
            f"1600-{rng.randint(1, 9)}W",
            f"010x{a}x{b}",
        ]
    )


def _coordinate(rng: random.Random) -> str:
    decimals = rng.randint(4, 7)
    return f"{rng.uniform(33, 38):.{decimals}f}, {rng.uniform(126, 130):.{decimals}f}"


def _business(rng: random.Random) -> str:
    number = f"{_digits(rng, 3)}-{_digits(rng, 2)}-{_digits(rng, 5)}"
    return rng.choice(["사업자등록번호 ", "사업자 ", ""]) + number


def _company(rng: random.Random) -> str:
    return f"법인등록번호 {rng.choice(['110111', '131111', '180111'])}-{_digits(rng, 7, '0123456')}"


def _account(rng: random.Random) -> str:
    return rng.choice(
        [
            f"국민 {_digits(rng, 6)}-{_digits(rng, 2)}-{_digits(rng, 6)}",
            f"신한 110-{_digits(rng, 3)}-{_digits(rng, 6)}",
            f"우리 1002-{_digits(rng, 3)}-{_digits(rng, 6)}",
            f"농협 301-{_digits(rng, 4)}-{_digits(rng, 4)}-{_digits(rng, 2)}",
            f"카카오뱅크 3333-{_digits(rng, 2)}-{_digits(rng, 7)}",
        ]
    )


def _wrong_check(rng: random.Random) -> str:
    """Sixteen digits of no card: the last one is off."""
    body = "4" + _digits(rng, 14)
    total = 0
    for place, symbol in enumerate(reversed(body)):
        doubled = int(symbol) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    number = body + str((-total + rng.randint(1, 9)) % 10)
    return "-".join(number[place : place + 4] for place in range(0, 16, 4))


def _impossible_resident(rng: random.Random) -> str:
    """A month or a day that no calendar has."""
    head = f"{rng.randint(0, 99):02d}{rng.choice([13, 19, 55, 99, 0]):02d}{rng.randint(1, 28):02d}"
    return f"{head}-{_digits(rng, 7, '1234')}"


def _name(rng: random.Random) -> str:
    return rng.choice(
        [
            "node.js",
            "vue.js",
            "ASP.NET",
            "No.1",
            "3.5파이",
            "@hanstyle",
            "1+1",
            "U.S.A",
            "data.csv",
            "photo.jpg",
            "Ph.D",
            "24/7",
            "@2x",
            "pandas@2.1",
            "50%@세일",
            "io.StringIO",
            "logging.info",
            "os.path.join",
            "블랙&화이트",
            "S/S",
            "M/L/XL",
            "TV.OTT",
            "vs.한국",
            "A4",
            "B2B",
            "3D.프린터",
            "Dr.Jart+",
            "오전10시~오후8시",
            "100.000",
            "2.5.1채널",
        ]
    )


def _long_number(rng: random.Random) -> str:
    return rng.choice(
        [
            _digits(rng, 10, "3456789"),
            _digits(rng, 12, "3456789"),
            _digits(rng, 20),
            _digits(rng, 7),
            _digits(rng, 8, "23456789"),
            f"조회수 {_digits(rng, 8)}회",
            f"{_digits(rng, 9, '23456789')}명",
            "π 3.14159265358979",
            f"{_digits(rng, 3)}-{_digits(rng, 3)}",
            f"{_digits(rng, 4, '23456789')}-{_digits(rng, 4)}",
        ]
    )


_Source = tuple[str, Callable[[random.Random], str], tuple[str, ...]]
SOURCES: tuple[_Source, ...] = (
    ("date", _date, ("입고일 {}", "유통기한 {}", "{} 방송")),
    ("history", _history, OWN),
    ("price", _price, ("특가 {}", "정가 {} 할인")),
    ("version", _version, ("업데이트 {}", "파이썬 {}")),
    ("product code", _product_code, ("상품코드 {}", "품번 {} 블랙")),
    ("order number", _order, ()),
    ("EAN", _ean, ("바코드 {}", "바코드번호: {}")),
    ("ISBN", _isbn, ("도서 {}",)),
    ("model", _model, ("정품 {} 케이스",)),
    ("size", _size, ("크기 {}", "사이즈 {} 수납장")),
    ("coordinate", _coordinate, ("좌표 {}", "GPS {}")),
    ("business number", _business, ()),
    ("company number", _company, ()),
    ("bank account", _account, ("입금 {}",)),
    ("card, wrong check digit", _wrong_check, ("쿠폰번호 {}",)),
    ("resident, impossible date", _impossible_resident, ("코드 {}",)),
    ("name", _name, ("신상 {} 추천",)),
    ("long number", _long_number, ("총 {}",)),
    ("place", places.about_a_place, OWN),
)
