"""Korean addresses for the generated cases: real places, made-up house numbers."""

from __future__ import annotations

import random

# (province, municipality, roads, neighbourhoods)
_PLACES = (
    ("서울특별시", "강남구", "테헤란로 강남대로 봉은사로 도산대로 선릉로", "역삼동 삼성동 청담동"),
    ("서울", "종로구", "세종대로 종로 율곡로 자하문로 새문안로5길", "청진동 혜화동 종로1가"),
    ("서울시", "마포구", "월드컵북로 양화로 와우산로21길 독막로", "합정동 서교동 상암동"),
    ("부산광역시", "해운대구", "해운대해변로 센텀중앙로 달맞이길", "우동 중동 좌동"),
    ("부산", "중구", "광복로 중앙대로 자갈치로", "남포동5가 부평동 대청동4가"),
    ("대구광역시", "수성구", "달구벌대로 동대구로 들안로", "범어동 만촌동 지산동"),
    ("인천", "연수구", "송도과학로 컨벤시아대로 인천타워대로", "송도동 연수동 동춘동"),
    ("광주광역시", "서구", "상무중앙로 시청로 운천로", "치평동 농성동"),
    ("대전", "유성구", "대학로 과학로 엑스포로", "궁동 도룡동 봉명동"),
    ("울산광역시", "남구", "삼산로 번영로 돋질로", "삼산동 달동"),
    (
        "경기도",
        "성남시 분당구",
        "판교역로 불정로 정자일로 분당내곡로117번길",
        "정자동 백현동 삼평동",
    ),
    ("경기", "수원시 팔달구", "정조로 효원로 인계로166번길", "인계동 매산로1가"),
    ("경기도", "양평군 서종면", "북한강로 낙촌길 황순원로", "문호리 수입리 명달리"),
    ("강원특별자치도", "강릉시", "경강로 창해로14번길 강릉대로", "안현동 견소동"),
    ("강원도", "평창군 대관령면", "솔봉로 대관령로 꽃밭양지길", "용산리 횡계리"),
    ("충청북도", "청주시 흥덕구", "가로수로 직지대로 풍산로", "복대동 가경동"),
    ("충남", "천안시 동남구", "만남로 충절로 버들로", "신부동 원성동"),
    ("전라북도", "전주시 완산구", "홍산로 태조로 기린대로", "풍남동3가 효자동2가"),
    ("전남", "여수시", "오동도로 박람회길 시청로", "학동 수정동"),
    ("경상북도", "경주시", "보문로 첨성로 포석로", "황남동 신평동"),
    ("경남", "창원시 성산구", "중앙대로 원이대로 창이대로", "용호동 상남동"),
    ("제주특별자치도", "제주시", "첨단로 연북로 노연로 은남3길", "연동 노형동 아라일동"),
    ("제주", "서귀포시 안덕면", "신화역사로304번길 사계남로", "서광리 사계리"),
)


def _pick(rng: random.Random, *, of: int) -> tuple[str, str]:
    """The region, sometimes without its province, and a road (2) or neighbourhood (3)."""
    place = rng.choice(_PLACES)
    region = f"{place[0]} {place[1]}" if rng.random() < 0.8 else place[1]
    return region, rng.choice(place[of].split())


def road_address(rng: random.Random) -> str:
    region, road = _pick(rng, of=2)
    number = str(rng.randint(1, 900)) + (f"-{rng.randint(1, 60)}" if rng.random() < 0.3 else "")
    return f"{region} {road} {number}"


def lot_address(rng: random.Random) -> str:
    region, neighbourhood = _pick(rng, of=3)
    number = str(rng.randint(1, 900)) + (f"-{rng.randint(1, 60)}" if rng.random() < 0.7 else "")
    mountain = "산 " if rng.random() < 0.1 else ""
    ending = "번지" if rng.random() < 0.4 else ""
    return f"{region} {neighbourhood} {mountain}{number}{ending}"


def about_a_place(rng: random.Random) -> str:
    """Names of places beside numbers that are no house numbers."""
    place = rng.choice(_PLACES)
    neighbourhood = rng.choice(place[3].split())
    road = rng.choice(place[2].split())
    return rng.choice(
        [
            f"{place[1]} {neighbourhood} 맛집 {rng.randint(2, 20)}곳",
            f"{place[0]} {place[1]} {neighbourhood} {rng.randint(2, 9)}대 카페",
            f"{place[1]} {neighbourhood} {rng.randint(2, 30)}평 원룸",
            f"{place[0]} {rng.randint(2, 5)}박 {rng.randint(3, 6)}일 여행",
            f"{place[1]} {road} {rng.randint(3, 20)}분 거리",
            f"{place[0]} {place[1]} {road} 벚꽃 {rng.randint(2010, 2026)}년",
            f"{place[0]} 시내로 {rng.randint(2, 20)}km",
            f"{place[1]}에서 따로 {rng.randint(2, 9)}개 구매",
            f"{neighbourhood} {rng.randint(1, 9)}번 출구",
            f"{rng.randint(1, 9)}호선 {neighbourhood} {rng.randint(1, 30)}층 오피스텔",
            f"{place[0]} {place[1]} {neighbourhood}",
            f"사이즈별로 {rng.randint(1, 9)} 새로 {rng.randint(1, 90)} 입고",
            f"다시 새로 {rng.randint(10, 99)} 도전",
        ]
    )
