"""What the shop sells: garment types, colours, patterns, and their Korean names.

Every name is written as a Korean shop or shopper writes it. The first name of a thing is the one
that evaluators use; the others make the texts vary. Options are attributes one can see: the
geometry of a garment follows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Options = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type of garment.

    ``options`` are the visible attributes (key, values); a value of ``종류`` is itself a noun that
    names the garment. ``counter`` counts it (한 벌, 한 켤레), ``wearing`` is how it is worn (입기).
    """

    key: str
    ko: str
    synonyms: tuple[str, ...] = ()
    category: str
    counter: str
    wearing: str
    seasons: tuple[str, ...]
    materials: tuple[str, ...]
    options: Options = ()


@dataclass(frozen=True, kw_only=True)
class Colour:
    """A colour: names that stand before a noun (빨간 셔츠) and its sRGB value, 0 to 255."""

    key: str
    ko: str
    synonyms: tuple[str, ...]
    rgb: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A pattern of the cloth and its names."""

    key: str
    ko: str
    synonyms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Garment:
    """One thing for sale: keys into KINDS, COLOURS_BY_KEY and PATTERNS_BY_KEY, visible attributes.

    ``ink`` is the colour of the pattern, None for plain cloth.
    """

    kind: str
    colour: str
    pattern: str
    ink: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


_FITS = ("핏", ("슬림핏", "레귤러핏", "오버핏"))
_ALL_YEAR = ("봄", "여름", "가을", "겨울")
_WARM = ("봄", "여름")
_COLD = ("가을", "겨울")
_MILD = ("봄", "가을")

_KINDS = (
    Kind(
        key="tshirt",
        ko="티셔츠",
        synonyms=("티", "면티"),
        category="패션의류|공용의류|티셔츠",
        counter="벌",
        wearing="입기",
        seasons=_WARM,
        materials=("면", "폴리에스테르", "레이온"),
        options=(("소매기장", ("반소매", "긴소매")), ("넥라인", ("라운드넥", "브이넥")), _FITS),
    ),
    Kind(
        key="shirt",
        ko="셔츠",
        synonyms=("남방", "와이셔츠"),
        category="패션의류|공용의류|셔츠/남방",
        counter="벌",
        wearing="입기",
        seasons=_MILD,
        materials=("면", "린넨", "폴리에스테르"),
        options=(("소매기장", ("긴소매", "반소매")), _FITS),
    ),
    Kind(
        key="knit",
        ko="니트",
        synonyms=("스웨터",),
        category="패션의류|공용의류|니트/스웨터",
        counter="벌",
        wearing="입기",
        seasons=_COLD,
        materials=("울", "아크릴", "캐시미어"),
        options=(("넥라인", ("터틀넥", "라운드넥")), _FITS),
    ),
    Kind(
        key="hoodie",
        ko="후드티",
        synonyms=("후디", "후드"),
        category="패션의류|공용의류|후드티",
        counter="벌",
        wearing="입기",
        seasons=_MILD,
        materials=("면", "기모", "폴리에스테르"),
        options=(("여밈", ("풀오버", "집업")), _FITS),
    ),
    Kind(
        key="jacket",
        ko="재킷",
        synonyms=("자켓", "점퍼"),
        category="패션의류|공용의류|재킷/점퍼",
        counter="벌",
        wearing="입기",
        seasons=_MILD,
        materials=("나일론", "가죽", "데님"),
        options=(("여밈", ("지퍼", "버튼")),),
    ),
    Kind(
        key="coat",
        ko="코트",
        synonyms=("외투", "오버코트"),
        category="패션의류|공용의류|코트",
        counter="벌",
        wearing="입기",
        seasons=_COLD,
        materials=("울", "캐시미어", "폴리에스테르"),
        options=(("총기장", ("하프", "롱")), ("여밈", ("싱글버튼", "더블버튼"))),
    ),
    Kind(
        key="vest",
        ko="조끼",
        synonyms=("베스트",),
        category="패션의류|공용의류|조끼",
        counter="벌",
        wearing="입기",
        seasons=_COLD,
        materials=("나일론", "울", "폴리에스테르"),
        options=(("종류", ("정장조끼", "패딩조끼")),),
    ),
    Kind(
        key="dress",
        ko="원피스",
        synonyms=("드레스",),
        category="패션의류|여성의류|원피스",
        counter="벌",
        wearing="입기",
        seasons=_WARM,
        materials=("시폰", "폴리에스테르", "린넨"),
        options=(
            ("총기장", ("미니", "미디", "롱")),
            ("소매기장", ("민소매", "반소매", "긴소매")),
            ("스커트스타일", ("A라인", "H라인")),
        ),
    ),
    Kind(
        key="skirt",
        ko="치마",
        synonyms=("스커트",),
        category="패션의류|여성의류|스커트",
        counter="벌",
        wearing="입기",
        seasons=_ALL_YEAR,
        materials=("면", "시폰", "데님"),
        options=(
            ("총기장", ("미니", "미디", "롱")),
            ("스커트스타일", ("A라인", "H라인", "플리츠", "티어드")),
        ),
    ),
    Kind(
        key="trousers",
        ko="바지",
        synonyms=("긴바지", "팬츠"),
        category="패션의류|공용의류|바지",
        counter="벌",
        wearing="입기",
        seasons=_ALL_YEAR,
        materials=("면", "데님", "폴리에스테르"),
        options=(("핏", ("슬림핏", "일자핏", "와이드핏")),),
    ),
    Kind(
        key="shorts",
        ko="반바지",
        synonyms=("숏팬츠", "쇼츠"),
        category="패션의류|공용의류|반바지",
        counter="벌",
        wearing="입기",
        seasons=("여름",),
        materials=("면", "린넨", "데님"),
        options=(("총기장", ("3부", "5부")),),
    ),
    Kind(
        key="hat",
        ko="모자",
        category="패션잡화|모자",
        counter="개",
        wearing="쓰기",
        seasons=_ALL_YEAR,
        materials=("면", "울", "폴리에스테르"),
        options=(("종류", ("볼캡", "비니", "버킷햇")),),
    ),
    Kind(
        key="sneakers",
        ko="운동화",
        synonyms=("스니커즈",),
        category="패션잡화|신발|운동화",
        counter="켤레",
        wearing="신기",
        seasons=_ALL_YEAR,
        materials=("메시", "캔버스", "스웨이드"),
        options=(("발목높이", ("로우탑", "하이탑")),),
    ),
    Kind(
        key="heels",
        ko="구두",
        synonyms=("힐", "펌프스"),
        category="패션잡화|신발|여성구두",
        counter="켤레",
        wearing="신기",
        seasons=_ALL_YEAR,
        materials=("가죽", "에나멜", "스웨이드"),
        options=(("굽높이", ("미들힐", "하이힐")), ("토스타일", ("포인티드 토", "라운드 토"))),
    ),
    Kind(
        key="boots",
        ko="부츠",
        category="패션잡화|신발|부츠",
        counter="켤레",
        wearing="신기",
        seasons=_COLD,
        materials=("가죽", "스웨이드", "고무"),
        options=(("종류", ("앵클부츠", "미들부츠", "롱부츠")),),
    ),
    Kind(
        key="socks",
        ko="양말",
        synonyms=("삭스",),
        category="패션잡화|양말",
        counter="켤레",
        wearing="신기",
        seasons=_ALL_YEAR,
        materials=("면", "울", "나일론"),
        options=(("종류", ("발목양말", "중목양말", "니삭스")),),
    ),
    Kind(
        key="handbag",
        ko="핸드백",
        synonyms=("손가방",),
        category="패션잡화|가방|핸드백",
        counter="개",
        wearing="들기",
        seasons=_ALL_YEAR,
        materials=("가죽", "캔버스", "스웨이드"),
        options=(("종류", ("토트백", "숄더백")),),
    ),
    Kind(
        key="backpack",
        ko="백팩",
        synonyms=("배낭", "책가방"),
        category="패션잡화|가방|백팩",
        counter="개",
        wearing="메기",
        seasons=_ALL_YEAR,
        materials=("나일론", "캔버스", "폴리에스테르"),
    ),
    Kind(
        key="scarf",
        ko="목도리",
        synonyms=("머플러",),
        category="패션잡화|목도리",
        counter="개",
        wearing="두르기",
        seasons=_COLD,
        materials=("울", "아크릴", "캐시미어"),
    ),
    Kind(
        key="tie",
        ko="넥타이",
        synonyms=("타이",),
        category="패션잡화|넥타이",
        counter="개",
        wearing="매기",
        seasons=_ALL_YEAR,
        materials=("실크", "폴리에스테르", "울"),
        options=(("폭", ("슬림", "와이드")),),
    ),
    Kind(
        key="gloves",
        ko="장갑",
        category="패션잡화|장갑",
        counter="켤레",
        wearing="끼기",
        seasons=_COLD,
        materials=("울", "가죽", "아크릴"),
        options=(("종류", ("벙어리장갑", "손가락장갑")),),
    ),
    Kind(
        key="umbrella",
        ko="우산",
        synonyms=("장우산",),
        category="패션잡화|우산",
        counter="개",
        wearing="쓰기",
        seasons=("여름",),
        materials=("폴리에스테르", "나일론"),
        options=(("손잡이", ("곡선형", "일자형")),),
    ),
)

_COLOURS = (
    Colour(key="red", ko="빨간색", synonyms=("빨간", "빨강", "레드"), rgb=(208, 32, 42)),
    Colour(key="orange", ko="주황색", synonyms=("주황", "오렌지색", "오렌지"), rgb=(243, 124, 26)),
    Colour(key="yellow", ko="노란색", synonyms=("노란", "노랑", "옐로우"), rgb=(248, 209, 48)),
    Colour(key="green", ko="초록색", synonyms=("초록", "녹색", "그린"), rgb=(42, 142, 72)),
    Colour(key="skyblue", ko="하늘색", synonyms=("하늘빛", "스카이블루"), rgb=(138, 200, 238)),
    Colour(key="blue", ko="파란색", synonyms=("파란", "파랑", "블루"), rgb=(36, 92, 214)),
    Colour(key="navy", ko="남색", synonyms=("네이비색", "네이비"), rgb=(28, 40, 98)),
    Colour(key="purple", ko="보라색", synonyms=("보라", "퍼플"), rgb=(124, 60, 168)),
    Colour(key="pink", ko="분홍색", synonyms=("분홍", "핑크색", "핑크"), rgb=(246, 146, 182)),
    Colour(key="brown", ko="갈색", synonyms=("밤색", "브라운"), rgb=(122, 72, 40)),
    Colour(key="beige", ko="베이지색", synonyms=("베이지",), rgb=(222, 199, 160)),
    Colour(key="gray", ko="회색", synonyms=("그레이",), rgb=(142, 144, 148)),
    Colour(key="white", ko="흰색", synonyms=("하얀색", "하얀", "화이트"), rgb=(246, 246, 244)),
    Colour(key="black", ko="검은색", synonyms=("검은", "검정", "블랙"), rgb=(34, 34, 37)),
)

_PATTERNS = (
    Pattern(key="solid", ko="민무늬", synonyms=("무지", "솔리드")),
    Pattern(key="stripe", ko="줄무늬", synonyms=("스트라이프",)),
    Pattern(key="check", ko="체크무늬", synonyms=("체크", "격자무늬")),
    Pattern(key="dot", ko="도트무늬", synonyms=("도트", "물방울무늬", "땡땡이")),
    Pattern(key="floral", ko="꽃무늬", synonyms=("플라워", "플로럴")),
    Pattern(key="star", ko="별무늬", synonyms=("별 프린트",)),
    Pattern(key="heart", ko="하트무늬", synonyms=("하트",)),
    Pattern(key="zigzag", ko="지그재그무늬", synonyms=("지그재그",)),
)

KINDS: Mapping[str, Kind] = {kind.key: kind for kind in _KINDS}
COLOURS_BY_KEY: Mapping[str, Colour] = {colour.key: colour for colour in _COLOURS}
PATTERNS_BY_KEY: Mapping[str, Pattern] = {pattern.key: pattern for pattern in _PATTERNS}

# (key, Korean name), for evaluators; the keys are those of a record's ``labels``.
TYPES: tuple[tuple[str, str], ...] = tuple((kind.key, kind.ko) for kind in _KINDS)
COLOURS: tuple[tuple[str, str], ...] = tuple((colour.key, colour.ko) for colour in _COLOURS)
PATTERNS: tuple[tuple[str, str], ...] = tuple((pattern.key, pattern.ko) for pattern in _PATTERNS)

# Sentences and queries around a garment's name.
TEMPLATES: tuple[str, ...] = (
    "{name}",
    "{name} 추천",
    "{name} 사진",
    "{name} 상품",
    "{name} 신상",
    "예쁜 {name}",
    "데일리 {name}",
    "{name} 상품 사진",
    "{name} 코디",
    "쇼핑몰에서 파는 {name}",
)
# As the talk's classifier of colours and patterns words its classes (slide 5.3).
ADJECTIVE_TEMPLATES: tuple[str, ...] = (
    "{name} 옷",
    "{name} 의류",
    "{name} 상품",
    "{name} 패션 상품",
    "{name} 옷 추천",
    "{name} 상품 사진",
)
