"""Personal numbers as their issuers make them, digit by digit, from a seeded generator."""

from __future__ import annotations

import datetime
import random


def digits(rng: random.Random, count: int, first: str = "0123456789") -> str:
    return rng.choice(first) + "".join(rng.choice("0123456789") for _ in range(count - 1))


def luhn_digit(body: str) -> str:
    total = 0
    for place, symbol in enumerate(reversed(body)):
        value = int(symbol)
        if place % 2 == 0:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return str(-total % 10)


def birth(rng: random.Random, first: int, last: int) -> datetime.date:
    start, stop = datetime.date(first, 1, 1).toordinal(), datetime.date(last, 12, 31).toordinal()
    return datetime.date.fromordinal(rng.randint(start, stop))


def resident_number(rng: random.Random, *, separator: str | None = None) -> str:
    """Citizens (1-4) and foreigners (5-8), with the check digit issued until October 2020."""
    foreign = rng.random() < 0.3
    day = birth(rng, 1940, 2019)
    marker = (5 if foreign else 1) + (2 if day.year >= 2000 else 0) + rng.randint(0, 1)
    body = f"{day:%y%m%d}{marker}{digits(rng, 5)}"
    total = sum(int(symbol) * (place % 8 + 2) for place, symbol in enumerate(body))
    check = ((13 if foreign else 11) - total % 11) % 10
    separator = separator if separator is not None else rng.choice(["-", "-", " - ", " ", "", "－"])
    return f"{body[:6]}{separator}{body[6:]}{check}"


def new_resident_number(rng: random.Random) -> str:
    """Of a child born after the change: six random digits behind the marker."""
    day = datetime.date(2020, 10, 10) + datetime.timedelta(days=rng.randint(0, 1700))
    return f"{day:%y%m%d}-{rng.choice('34')}{digits(rng, 6)}"


def licence(rng: random.Random) -> str:
    region = rng.choice(
        [
            "11",
            "12",
            "13",
            "14",
            "15",
            "16",
            "17",
            "18",
            "19",
            "20",
            "21",
            "22",
            "23",
            "24",
            "25",
            "26",
            "28",
        ]
    )
    year, serial, check = f"{rng.randint(0, 99):02d}", digits(rng, 6), digits(rng, 2)
    name = rng.choice(
        [
            "서울",
            "부산",
            "경기",
            "강원",
            "충북",
            "충남",
            "전북",
            "전남",
            "경북",
            "경남",
            "제주",
            "대구",
            "인천",
            "광주",
            "대전",
            "울산",
        ]
    )
    separator = rng.choice("-- ")
    return rng.choice(
        [
            separator.join((region, year, serial, check)),
            "-".join((region, year, serial, check)),
            f"{name} {year}-{serial}-{check}",
            f"{name}-{year}-{serial}-{check}",
        ]
    )


def passport(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return "M" + digits(rng, 8)
    return "M" + digits(rng, 3) + rng.choice("ABCDEFGHJKLMNPRTUVWXYZ") + digits(rng, 4)


def _grouped(rng: random.Random, parts: tuple[str, ...]) -> str:
    joint = rng.choice(["-", "-", "-", ".", " ", " - ", "·", "", "–"])
    return joint.join(parts)


def mobile(rng: random.Random) -> str:
    return _grouped(rng, ("010", digits(rng, 4, "23456789"), digits(rng, 4)))


def old_mobile(rng: random.Random) -> str:
    prefix = rng.choice(["011", "016", "017", "018", "019"])
    middle = digits(rng, rng.choice((3, 4)), "23456789")
    return rng.choice("-. ").join((prefix, middle, digits(rng, 4)))


def landline(rng: random.Random) -> str:
    codes = [
        "02",
        "031",
        "032",
        "033",
        "041",
        "042",
        "043",
        "044",
        "051",
        "052",
        "053",
        "054",
        "055",
        "061",
        "062",
        "063",
        "064",
    ]
    area, middle = rng.choice(codes), digits(rng, rng.choice((3, 4)), "23456789")
    if rng.random() < 0.15:
        return f"({area}) {middle}-{digits(rng, 4)}"
    if rng.random() < 0.15:
        return f"{area}){middle}-{digits(rng, 4)}"
    return rng.choice(["-", "-", ".", " "]).join((area, middle, digits(rng, 4)))


def other_phone(rng: random.Random) -> str:
    choice = rng.randrange(5)
    if choice == 0:
        return f"070-{digits(rng, 4, '23456789')}-{digits(rng, 4)}"
    if choice == 1:
        return f"050{rng.randint(2, 8)}-{digits(rng, 4)}-{digits(rng, 4)}"
    if choice == 2:
        return f"080-{digits(rng, 3)}-{digits(rng, 4)}"
    if choice == 3:
        return f"0505-{digits(rng, 3, '23456789')}-{digits(rng, 4)}"
    prefix = rng.choice(
        [
            "1522",
            "1544",
            "1566",
            "1577",
            "1588",
            "1599",
            "1600",
            "1644",
            "1661",
            "1666",
            "1670",
            "1688",
            "1811",
            "1833",
            "1855",
            "1877",
            "1899",
        ]
    )
    return f"{prefix}-{digits(rng, 4, '0345679')}"


def international(rng: random.Random) -> str:
    tail = (digits(rng, 4, "23456789"), digits(rng, 4))
    lead = rng.choice(
        [
            "+82-10",
            "+82 10",
            "+82)10",
            "+8210",
            "+82-(0)10",
            "+82 (0)10",
            "82-10",
            "+82-2",
            "+82-51",
        ]
    )
    joint = "" if lead == "+8210" else rng.choice("- ")
    return joint.join((lead, *tail))


def spelled_phone(rng: random.Random) -> str:
    names = "공일이삼사오육칠팔구"
    number = "010" + digits(rng, 8, "23456789")
    if rng.random() < 0.5:
        spoken = "".join(names[int(symbol)] for symbol in number)
    else:  # some digits only
        spoken = "".join(
            names[int(symbol)] if place in (0, 1, 2, 5, 8) else symbol
            for place, symbol in enumerate(number)
        )
    return rng.choice("- ").join((spoken[:3], spoken[3:7], spoken[7:]))


def tracking(rng: random.Random) -> str:
    """The number alone; its context comes with the line."""
    length = rng.choice((10, 11, 12, 12, 13, 14))
    number = digits(rng, length, "23456789")
    if length == 12 and rng.random() < 0.5:
        return "-".join((number[:4], number[4:8], number[8:]))
    if length == 13 and rng.random() < 0.5:
        return "-".join((number[:5], number[5:9], number[9:]))
    return number


def ems(rng: random.Random) -> str:
    serial = digits(rng, 8)
    total = sum(int(s) * w for s, w in zip(serial, (8, 6, 4, 2, 3, 5, 9, 7), strict=True))
    check = {10: 0, 11: 5}.get(11 - total % 11, 11 - total % 11)
    return f"{rng.choice('ERCL')}{rng.choice('ABEGM')}{serial}{check}KR"


def card(rng: random.Random) -> str:
    prefix = rng.choice(
        [
            "4",
            "4",
            "4",
            "51",
            "52",
            "53",
            "54",
            "55",
            "2300",
            "2650",
            "3540",
            "6210",
            "6250",
            "9410",
            "9490",
        ]
    )
    body = prefix + digits(rng, 15 - len(prefix))
    number = body + luhn_digit(body)
    joint = rng.choice(["-", "-", " ", "", "."])
    return joint.join(number[place : place + 4] for place in range(0, 16, 4))


def amex(rng: random.Random) -> str:
    body = rng.choice(("34", "37")) + digits(rng, 12)
    number = body + luhn_digit(body)
    return rng.choice("- ").join((number[:4], number[4:10], number[10:]))


_USERS = [
    "kim",
    "lee_minho",
    "park.js",
    "haneul",
    "love4u",
    "best-shop",
    "cs",
    "help1004",
    "j.h.choi",
    "star99",
    "info",
]
_DOMAINS = [
    "naver.com",
    "gmail.com",
    "daum.net",
    "hanmail.net",
    "kakao.com",
    "nate.com",
    "snu.ac.kr",
    "shop.co.kr",
    "company.io",
    "mail.go.kr",
]


def email(rng: random.Random) -> str:
    user = rng.choice(_USERS) + rng.choice(["", str(rng.randint(1, 9999))])
    joint = rng.choice(["@", "@", "@", "@", " @ ", "(at)", "골뱅이", "[at]", "＠"])
    return f"{user}{joint}{rng.choice(_DOMAINS)}"


def url(rng: random.Random) -> str:
    host = rng.choice(
        [
            "blog.naver.com/abc1",
            "smartstore.naver.com/shop",
            "youtube.com/watch?v=3f_x",
            "cafe.daum.net/x",
            "m.site.co.kr",
            "myshop.kr",
            "example.org/a/b?c=1&d=2",
            "11st.co.kr",
            "coupang.com/vp/1",
            "store.cafe24.com",
        ]
    )
    short = [
        "bit.ly/3xYz",
        "naver.me/5Abc",
        "youtu.be/dQw4",
        "t.me/join",
        "goo.gl/ab12",
        "kko.to/a1",
    ]
    return rng.choice(
        [
            f"https://{host}",
            f"http://{host}",
            f"www.{host}",
            host,
            rng.choice(short),
            f"HTTPS://{host}",
        ]
    )
