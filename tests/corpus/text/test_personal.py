"""Personal data found, and what looks like it left alone."""

from __future__ import annotations

import pytest

from kmm_jax.corpus.text import PERSONAL, Cleaner
from tests.corpus.text.generated import DEVELOPMENT_SEED, cases
from tests.corpus.text.scoring import score


@pytest.fixture(scope="module")
def cleaner() -> Cleaner:
    return Cleaner()


def test_generated_cases_are_found_with_recall_099_and_precision_098(cleaner: Cleaner) -> None:
    made = list(cases(DEVELOPMENT_SEED))
    assert len(made) >= 5000
    scores = score(made, cleaner)
    assert scores.recall() >= 0.99 and scores.precision() >= 0.98
    for reason in PERSONAL:
        assert scores.recall(reason) >= 0.98, reason
        assert scores.precision(reason) >= 0.97, reason


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ("외국인등록번호 900101-5234567", "900101-5234567", "resident_number"),
        ("아이 주민번호 201103-3123456 등록", "201103-3123456", "resident_number"),
        ("면허증 11-05-123456-78 분실", "11-05-123456-78", "driver_license"),
        ("여권 M123A4567", "M123A4567", "passport"),
        ("여권번호 S12345678", "S12345678", "passport"),
        ("문의０１０－１２３４－５６７８", "０１０－１２３４－５６７８", "phone"),
        ("공일공-일이삼사-오육칠팔 연락", "공일공-일이삼사-오육칠팔", "phone"),
        ("+82 10-1234-5678", "+82 10-1234-5678", "phone"),
        ("고객센터 1588-1588", "1588-1588", "phone"),
        ("CJ대한통운 운송장번호: 1234-5678-9012", "1234-5678-9012", "tracking_number"),
        ("카드 4111 1111 1111 1111 결제", "4111 1111 1111 1111", "card_number"),
        ("서울특별시 강남구 테헤란로 152, 3층", "서울특별시 강남구 테헤란로 152", "address"),
        (
            "배송지 경기도 성남시 분당구 판교역로 166에서",
            "경기도 성남시 분당구 판교역로 166",
            "address",
        ),
        (
            "경기도 양평군 서종면 문호리 산 12-3번지",
            "경기도 양평군 서종면 문호리 산 12-3번지",
            "address",
        ),
        ("메일 kim.lee@naver.com으로", "kim.lee@naver.com", "email"),
        ("kim골뱅이naver.com", "kim골뱅이naver.com", "email"),
        (
            "자세히 https://smartstore.naver.com/a?b=1 참고",
            "https://smartstore.naver.com/a?b=1",
            "url",
        ),
        ("naver.me/5abc 에서", "naver.me/5abc", "url"),
    ],
)
def test_each_is_found_where_it_stands(
    cleaner: Cleaner, text: str, value: str, reason: str
) -> None:
    start = text.index(value)
    assert cleaner(text).spans == ((start, start + len(value), reason),)


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-15 입고 1,234,567원",
        "주문번호 20240115-1234567",
        "바코드 8801234567893",
        "ISBN 979-11-1234-567-8 도서",
        "사업자등록번호 123-45-67890",
        "법인등록번호 110111-1234567",
        "임진왜란 이순신 (1545-1598)",
        "갤럭시 SM-S928N 512GB 자급제",
        "강남구 역삼동 맛집 5곳",
        "강남구 테헤란로 3분 거리",
        "지하철 2호선 역삼역 3번 출구",
        "위도 37.566535, 경도 126.9779692",
        "가구 1200x600x750mm 흰색",
        "품번 M12345678 나이키 신발",
        "쿠폰 4111-1111-1111-1112 사용",
        "새로 3 입고, 별로 10 남음",
        "ASP.NET 입문, node.js 강의",
    ],
)
def test_what_looks_like_it_is_kept(cleaner: Cleaner, text: str) -> None:
    assert not [span for span in cleaner(text).spans if span[2] in PERSONAL]


def test_a_number_born_before_the_change_needs_its_check_digit_or_its_name(
    cleaner: Cleaner,
) -> None:
    assert cleaner("나의 900101-1234567 번").reasons == ()
    assert cleaner("주민등록번호 900101-1234567").reasons == ("resident_number",)
    assert cleaner("나의 900101-1234568 번").reasons == ("resident_number",)
