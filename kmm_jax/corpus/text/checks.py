"""Check digits and issuers: pure functions on strings of digits."""

from __future__ import annotations

import datetime

_LAST_YEAR = 2039
# Numbers given since this day have six random digits behind the marker and no check digit
# (주민등록법 시행규칙, in force 2020-10-05).
_RANDOM_SINCE = datetime.date(2020, 10, 5)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for place, symbol in enumerate(reversed(digits)):
        value = int(symbol) << (place & 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Luhn, and a prefix and a length that an issuer uses (9: Korean domestic cards)."""
    head2, head4 = int(digits[:2]), int(digits[:4])
    size = len(digits)
    if head2 in (34, 37):
        known = size == 15
    elif head2 in (30, 36, 38, 39) and size == 14:
        known = True
    elif head2 == 62:
        known = 16 <= size <= 19
    else:
        known = size == 16 and (
            digits[0] in "49"
            or 51 <= head2 <= 55
            or 2221 <= head4 <= 2720
            or 3528 <= head4 <= 3589
            or head2 in (60, 64, 65)
        )
    return known and luhn(digits)


def ean13(digits: str) -> bool:
    """The check digit of EAN-13 and ISBN-13."""
    odd, even = digits[0::2], digits[1::2]
    return (sum(map(int, odd)) + 3 * sum(map(int, even))) % 10 == 0


def isbn10(digits: str) -> bool:
    """The check digit of ISBN-10, where it is a digit."""
    return sum(int(symbol) * (10 - place) for place, symbol in enumerate(digits)) % 11 == 0


def birthday(digits: str) -> datetime.date | None:
    """Of thirteen digits of a resident number; None where the calendar has no such day."""
    century = 1900 if digits[6] in "1256" else 2000
    try:
        day = datetime.date(century + int(digits[:2]), int(digits[2:4]), int(digits[4:6]))
    except ValueError:
        return None
    return day if day.year <= _LAST_YEAR else None


def resident(digits: str) -> bool:
    """The check digit that citizens' and foreigners' numbers had until October 2020."""
    weights = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
    total = sum(int(symbol) * weight for symbol, weight in zip(digits, weights, strict=False))
    return ((13 if digits[6] in "5678" else 11) - total % 11) % 10 == int(digits[12])


def may_lack_check_digit(day: datetime.date) -> bool:
    """Whether somebody born on ``day`` got a number without one at birth."""
    return day >= _RANDOM_SINCE


def s10(serial: str) -> bool:
    """The nine digits of a UPU S10 postal item number."""
    total = sum(int(s) * w for s, w in zip(serial, (8, 6, 4, 2, 3, 5, 9, 7), strict=False))
    return {10: 0, 11: 5}.get(11 - total % 11, 11 - total % 11) == int(serial[8])
