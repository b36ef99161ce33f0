"""The sentences and words of :mod:`kmm_jax.data.datasets.fashion_prompts`, English and Korean.

Slots of both: T the type, G who wears it, F for whom, U the usage, S the season, P the pattern.
English: C the colour; a the article (``a``, ``a pair of``), with the space behind it.
Korean: A the colour before a noun (빨간), D as a noun (빨간색), E as shops borrow it (레드); V the
usage as a style; K the counting word.

A template's attributes are known by its slots, and each says the colour once. In training and held
out alike some are typed into a search, some name a product and some are sentences.
"""

from __future__ import annotations

from collections.abc import Mapping

ENGLISH_TRAINING = (
    "a photo of {a}{C} {T}",
    "a picture of {a}{C} {T}",
    "a product photo of {a}{C} {T}",
    "shop photo of {a}{C} {T}",
    "product photo: {C} {T}",
    "product photo: {T} in {C}",
    "{C} {T}",
    "{C} coloured {T}",
    "{T} in {C}",
    "{a}{T} in {C}",
    "{T}, {C}",
    "{G} {C} {T}",
    "{G} {T}, {C}",
    "{C} {T} for {F}",
    "a photo of {a}{C} {T} for {F}",
    "product photo: {G} {T} in {C}",
    "{U} {C} {T}",
    "{C} {U} {T}",
    "a photo of {a}{U} {C} {T}",
    "product photo: {U} {T} in {C}",
    "{C} {T} for {S}",
    "{S} {T} in {C}",
    "{S} collection: {C} {T}",
    "a photo of {a}{C} {T} for {S}",
    "{P} {C} {T}",
    "{C} {P} {T}",
    "a photo of {a}{C} {P} {T}",
    "product photo: {P} {T} in {C}",
    "{G} {U} {C} {T}",
    "{G} {U} {T} in {C}",
    "product photo: {G} {U} {T} in {C}",
    "a photo of {a}{C} {U} {T} for {F}",
    "{G} {C} {T} for {S}",
    "{G} {S} {T} in {C}",
    "{S} collection: {G} {T} in {C}",
    "{G} {C} {P} {T}",
    "{G} {P} {T} in {C}",
    "a photo of {a}{C} {P} {T} for {F}",
)

ENGLISH_HELD_OUT = (
    "an image showing {a}{C} {T}",
    "here you see {a}{C} {T}",
    "looking for {a}{T} in {C}",
    "catalogue picture: {T} in the colour {C}",
    "online shop listing: {C} {T}",
    "an image showing {a}{G} {T} in {C}",
    "{C} {T} made for {F}",
    "an image showing {a}{C} {T} in {U} style",
    "{U} style: {T} in {C}",
    "an image showing {a}{C} {S} {T}",
    "made for {S}: {C} {T}",
    "an image showing {a}{P} {T} in {C}",
    "{T}: {P}, {C}",
    "an image showing {a}{U} {C} {T} made for {F}",
    "{U} style for {F}: {T} in {C}",
    "an image showing {a}{G} {C} {T} made for {S}",
    "{S} picks for {F}: {C} {T}",
    "an image showing {a}{P} {C} {T} made for {F}",
    "{T} for {F}: {P}, {C}",
)

KOREAN_TRAINING = (
    "{A} {T}",
    "{E} {T}",
    "{T} {D}",
    "{T} {E}",
    "{A} {T} 추천",
    "{E} 컬러 {T}",
    "[{E}] {T}",
    "{T} ({E})",
    "{T} - {D}",
    "{A} {T} 한 {K}",
    "{A} {T}의 사진",
    "{A} {T:을/를} 찍은 사진",
    "{A} {T:을/를} 찍은 상품 사진입니다.",
    "{A} {T:이/가} 있는 사진",
    "색상이 {D}인 {T}",
    "이 {T:은/는} {D}입니다.",
    "{D:으로/로} 나온 {T} 사진이에요.",
    "{G} {A} {T}",
    "{A} {G} {T}",
    "{F} {T} {D}",
    "[{F}] {T} {E}",
    "{G} {T} 추천, {E} 컬러",
    "{F} {A} {T:을/를} 찍은 사진",
    "이 {F} {T:은/는} {D}입니다.",
    "{U} {A} {T}",
    "{A} {U} {T}",
    "{U} {T} {E}",
    "{V} 스타일의 {A} {T}",
    "{A} {U} {T:을/를} 찍은 사진",
    "{S} {A} {T}",
    "{S} {T} {E}",
    "{S} 신상 {A} {T} 사진",
    "{S}에 어울리는 {A} {T}",
    "{P} {A} {T}",
    "{A} {P} {T}",
    "{P} {T} {E}",
    "{P} 디자인의 {A} {T}",
    "{A} {P} {T:을/를} 찍은 사진",
    "{G} {U} {A} {T}",
    "{F} {V} {T} {E}",
    "{V} 스타일의 {F} {A} {T}",
    "{F} {A} {V} {T:을/를} 찍은 사진",
    "{G} {S} {A} {T}",
    "{S} {G} {T} {E}",
    "{S}에 어울리는 {F} {A} {T}",
    "{G} {P} {A} {T}",
    "{G} {A} {P} {T}",
    "{F} {A} {P} {T:을/를} 찍은 사진",
)

KOREAN_HELD_OUT = (
    "{E} 색상 {T} 찾기",
    "{A} {T} 이미지 검색",
    "{T} / 색상: {D}",
    "{A} {T:이/가} 보이는 이미지",
    "화면에 {A} {T:이/가} 나와 있습니다.",
    "사진 속 {T:은/는} {D:이다/다}.",
    "{D:을/를} 띤 {T}",
    "{A} {T:은/는} 이렇게 생겼어요.",
    "{A} {T}, {F}",
    "{F:으로/로} 나온 {A} {T}",
    "{F} {A} {T:이/가} 보이는 이미지",
    "{V} 룩에 어울리는 {A} {T}",
    "{T} {E} 컬러, {V} 스타일",
    "{U} {A} {T:이/가} 보이는 이미지",
    "{A} {T}, {S} 시즌 상품",
    "{S} 코디에 좋은 {E} {T}",
    "{S:을/를} 위한 {A} {T:이/가} 보이는 이미지",
    "{T} {E} 컬러, {P} 디자인",
    "{A} {P} {T:이/가} 보이는 이미지",
    "{V} 룩에 어울리는 {F} {E} {T}",
    "{F} {A} {V} {T:이/가} 보이는 이미지",
    "{F} {A} {T}, {S} 시즌 상품",
    "{S} 코디에 좋은 {F} {E} {T}",
    "{P} 디자인의 {F} {T}, {E} 컬러",
    "{F} {A} {P} {T:이/가} 보이는 이미지",
)

# Besides the name that the class set has.
ENGLISH_TYPES: Mapping[str, tuple[str, ...]] = {
    "Tshirts": ("tshirt", "tee"),
    "Shirts": ("button-up shirt",),
    "Sweaters": ("jumper", "pullover"),
    "Casual Shoes": ("sneakers",),
    "Heels": ("heels", "high-heeled shoes"),
    "Flip Flops": ("flip flops", "thong sandals"),
    "Handbags": ("tote bag", "purse"),
    "Wallets": ("billfold",),
    "Watches": ("wristwatch",),
    "Sunglasses": ("shades",),
}

PAIRED = frozenset({"Casual Shoes", "Heels", "Flip Flops", "Sunglasses"})
"""Types whose English names are plural."""

ENGLISH_COLORS: Mapping[str, tuple[str, ...]] = {"Grey": ("grey", "gray")}

# Before a noun, as a noun, as shops borrow it.
KOREAN_COLORS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "Black": (("검은", "검은색", "검정", "까만"), ("검은색", "검정색", "검정"), "블랙"),
    "White": (("흰", "흰색", "하얀", "하얀색"), ("흰색", "하얀색"), "화이트"),
    "Grey": (("회색", "회색빛", "잿빛"), ("회색", "잿빛"), "그레이"),
    "Brown": (("갈색", "밤색"), ("갈색", "밤색"), "브라운"),
    "Blue": (("파란", "파란색", "푸른", "파랑"), ("파란색", "푸른색", "파랑"), "블루"),
    "Red": (("빨간", "빨간색", "붉은", "빨강"), ("빨간색", "붉은색", "빨강"), "레드"),
    "Green": (("초록", "초록색", "녹색", "초록빛"), ("초록색", "녹색", "초록"), "그린"),
    "Pink": (("분홍", "분홍색", "분홍빛"), ("분홍색", "분홍"), "핑크"),
}

COUNTERS: Mapping[str, str] = {
    "Tshirts": "장",
    "Shirts": "벌",
    "Sweaters": "벌",
    "Casual Shoes": "켤레",
    "Heels": "켤레",
    "Flip Flops": "켤레",
}

# As an adjective, and after "for".
ENGLISH_GENDERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Men": (("men's", "mens"), ("men",)),
    "Women": (("women's", "womens"), ("women",)),
    "Boys": (("boys'", "boys"), ("boys",)),
    "Girls": (("girls'", "girls"), ("girls",)),
    "Unisex": (("unisex",), ("men and women",)),
}

ENGLISH_USAGES: Mapping[str, tuple[str, ...]] = {
    "Casual": ("casual", "everyday"),
    "Formal": ("formal",),
    "Sports": ("sports", "sporty"),
    "Party": ("party",),
    "Ethnic": ("ethnic",),
    "Smart Casual": ("smart casual",),
    "Travel": ("travel",),
}

ENGLISH_SEASONS: Mapping[str, tuple[str, ...]] = {
    "Spring": ("spring",),
    "Summer": ("summer",),
    "Fall": ("autumn", "fall"),
    "Winter": ("winter",),
}

# By the Korean word that fashion_wording finds: in English, and otherwise in Korean.
PATTERNS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "줄무늬": (("striped", "stripy"), ("스트라이프",)),
    "체크무늬": (("checked", "plaid"), ("체크",)),
    "꽃무늬": (("floral", "flower-patterned"), ("플로럴",)),
    "물방울무늬": (("polka-dot", "dotted"), ("도트",)),
    "페이즐리": (("paisley",), ()),
    "카모플라주": (("camouflage", "camo"), ("카모",)),
    "자수": (("embroidered",), ()),
    "프린트": (("printed",), ("프린팅",)),
    "무지": (("plain", "solid"), ("민무늬",)),
}
