"""What shops and bloggers write of things, leaving out what they do not care to say.

Colour and pattern are said in words of some documents only: the others show them. Material, season
and use stand in the text and are seen in no picture. Some names are a series' and no thing's, as
slide 5.3 has it, and some sentences speak of a thing that is not in the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from kmm_jax.demo.facts import Entry, Facts, Lexicon
from kmm_jax.text.templates import fill_slots

# How often a fact is said at all, and of those how often in the title.
_SAID = {
    "type": (0.85, 0.95),
    "color": (0.45, 0.7),
    "pattern": (0.45, 0.6),
    "material": (0.85, 0.15),
    "season": (0.6, 0.3),
    "gender": (0.6, 0.8),
    "usage": (0.6, 0.3),
}
_PLAIN = "민무늬"  # what hardly anybody mentions
_SAID_PLAIN = 0.1

_SERIES = (
    "모먼트", "올데이", "어반 라인", "에브리데이", "시그니처", "노블", "문라이트", "리틀 포레스트",
    "선데이", "오로라", "클래식 에디션", "보헤미안",
)  # fmt: skip
_MOODS = ("데일리", "베이직", "심플", "빈티지", "감성", "국내제작", "인기", "MD추천")

_SENTENCES: Mapping[str, tuple[str, ...]] = {
    "type": ("{W:을/를} 찾는 분께 권합니다.", "이번에 준비한 상품은 {W:이에요/예요}."),
    "color": ("색상은 {W}입니다.", "컬러는 {W}.", "사진과 같은 {W} 상품이 갑니다."),
    "pattern": ("{W} 디자인입니다.", "{W:이/가} 들어간 원단을 썼어요."),
    "material": ("소재는 {W}입니다.", "{W} 소재라 관리가 쉬워요.", "혼용률: {W} 위주."),
    "season": ("{W}에 잘 어울립니다.", "{W} 내내 손이 가요."),
    "gender": ("{W} 상품입니다.",),
    "usage": ("{W} 스타일에 좋습니다.", "{W:으로/로} 추천합니다."),
}
_FILLERS = (
    "오늘 주문하면 내일 도착합니다.",
    "교환과 반품은 7일 안에 됩니다.",
    "세탁은 찬물에 해 주세요.",
    "실물이 더 예뻐요.",
    "후기 사진을 남기면 적립금을 드려요.",
    "재입고 문의가 많았던 상품이에요.",
)
_OTHERS = (
    "지난번에 소개한 {C} {T:은/는} 품절되었습니다.",
    "{C} {T:과/와} 함께 많이 찾습니다.",
    "{C} {T:은/는} 다음 주에 들어옵니다.",
)
_OTHER_SHARE = 0.15

_POST_TITLES = (
    "오늘의 코디 기록",
    "요즘 자주 입는 조합",
    "주말 쇼핑 언박싱",
    "{S} 데일리룩",
    "{T} 코디 모음",
    "내돈내산 {T} 후기",
    "{X} 코디해 봤어요",
    "{X:과/와} 함께한 하루",
)
_POST_SENTENCES = (
    "{X:을/를} 골랐어요.",
    "{X:이/가} 마음에 들어요.",
    "{X:으로/로} 포인트를 줬어요.",
    "{X:은/는} 선물 받은 거예요.",
)
_POST_ENDS = (
    "오늘도 읽어 주셔서 고맙습니다.",
    "궁금한 점은 댓글로 남겨 주세요.",
    "날씨가 좋아서 많이 걸었어요.",
    "다음 글에서 또 만나요.",
)


def write(entry: Entry, lexicon: Lexicon, rng: Random) -> tuple[str, str]:
    """Title and body of a document."""
    return (_post if entry.kind == "post" else _listing)(entry.things, lexicon, rng)


def _listing(things: tuple[Facts, ...], lexicon: Lexicon, rng: Random) -> tuple[str, str]:
    first = things[0]
    title: dict[str, str] = {}
    sentences = []
    for key in _SAID:
        if key not in first or rng.random() >= _said(key, first[key]):
            continue
        # Of what comes in several colours all are named.
        values = list(dict.fromkeys(thing[key] for thing in things))
        word = ", ".join(lexicon.say(key, value, rng) for value in values)
        if rng.random() < _SAID[key][1] and len(values) == 1:
            title[key] = word
        else:
            sentences.append(_fill(rng, _SENTENCES[key], W=word))
    rng.shuffle(sentences)
    if rng.random() < _OTHER_SHARE:
        sentences.append(_of_another(first, lexicon, rng))
    sentences += rng.sample(_FILLERS, rng.choice((1, 2)))
    return _name(title, rng), " ".join(sentences)


def _name(said: dict[str, str], rng: Random) -> str:
    """A product's name of the words that are to be in it."""
    season = f"[{said['season']} 신상]" if "season" in said else ""
    mood = rng.choice(_MOODS) if rng.random() < 0.5 else ""
    noun = said.get("type") or f"{rng.choice(_SERIES)} {rng.randrange(1, 60):02d}"
    series = rng.choice(_SERIES) if "type" in said and rng.random() < 0.3 else ""
    words = [season, said.get("gender", ""), mood, series, said.get("usage", "")]
    if "color" in said and rng.random() < 0.3:
        words += [said.get("pattern", ""), said.get("material", ""), noun, f"({said['color']})"]
    else:
        words += [said.get(key, "") for key in ("color", "pattern", "material")] + [noun]
    return " ".join(word for word in words if word)


def _post(things: tuple[Facts, ...], lexicon: Lexicon, rng: Random) -> tuple[str, str]:
    first = things[0]
    words = {"T": lexicon.say("type", first["type"], rng), "X": _phrase(first, lexicon, rng, 0.5)}
    if "season" in first:
        words["S"] = lexicon.say("season", first["season"], rng)
    titles = [title for title in _POST_TITLES if "{S}" not in title or "S" in words]
    title = fill_slots(rng.choice(titles), words)
    sentences = [
        _fill(rng, _POST_SENTENCES, X=_phrase(thing, lexicon, rng, 0.4))
        for thing in things
        if rng.random() < 0.75
    ]
    if rng.random() < _OTHER_SHARE:
        sentences.append(_of_another(first, lexicon, rng))
    sentences.append(rng.choice(_POST_ENDS))
    return title, " ".join(sentences)


def _phrase(thing: Facts, lexicon: Lexicon, rng: Random, often: float) -> str:
    """The thing's name with what else is said of it."""
    words = [
        lexicon.say(key, thing[key], rng)
        for key in ("gender", "color", "pattern", "material")
        if key in thing and rng.random() < min(often, _said(key, thing[key]))
    ]
    return " ".join([*words, lexicon.say("type", thing["type"], rng)])


def _of_another(thing: Facts, lexicon: Lexicon, rng: Random) -> str:
    """A sentence about a thing of another type."""
    types = sorted(set(lexicon.words["type"]) - {thing["type"]})
    colors = sorted(lexicon.words["color"])
    return fill_slots(
        rng.choice(_OTHERS),
        {
            "T": lexicon.say("type", rng.choice(types), rng),
            "C": lexicon.say("color", rng.choice(colors), rng),
        },
    )


def _said(key: str, value: str) -> float:
    return _SAID_PLAIN if (key, value) == ("pattern", _PLAIN) else _SAID[key][0]


def _fill(rng: Random, templates: tuple[str, ...], **words: str) -> str:
    return fill_slots(rng.choice(templates), words)
