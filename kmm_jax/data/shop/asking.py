"""Questions about a picture of the shop, with their answers, from what is known of it.

Every kind of question has wordings for training and others, held out, that no training row holds:
the same words put together in another way.
Yes and no are equally likely, whatever is asked about, so that a question without its picture tells
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random

from kmm_jax.data.questions import Question
from kmm_jax.data.shop.combinations import Split
from kmm_jax.data.shop.scene import Box
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY, Garment
from kmm_jax.text.particles import PARTICLES, with_particle

YES, NO = "네", "아니요"
NUMBERS = {1: "하나", 2: "둘", 3: "셋"}
TRAINING, HELD_OUT = "training", "held_out"

# ({thing} and {value} may carry a particle: {thing 은/는}.)
WORDINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "type": {
        TRAINING: (
            "이게 뭐야?",
            "이 상품은 뭐예요?",
            "사진에 있는 게 뭐야?",
            "무슨 상품이야?",
            "뭐가 보여?",
        ),
        HELD_OUT: ("사진에 있는 상품은 뭐야?", "이 상품이 뭐야?"),
    },
    "color": {
        TRAINING: (
            "무슨 색이야?",
            "색깔이 뭐야?",
            "{thing 은/는} 무슨 색이에요?",
            "이 {thing} 색은 뭐예요?",
            "{thing 이/가} 무슨 색이야?",
        ),
        HELD_OUT: ("이 상품은 무슨 색이에요?", "이 {thing 은/는} 무슨 색이야?"),
    },
    "pattern": {
        TRAINING: (
            "무슨 무늬야?",
            "무늬가 뭐야?",
            "{thing 은/는} 무슨 무늬예요?",
            "이 {thing} 무늬는 뭐예요?",
            "{thing 이/가} 무슨 무늬야?",
        ),
        HELD_OUT: ("이 상품은 무슨 무늬예요?", "이 {thing 은/는} 무슨 무늬야?"),
    },
    "count": {
        TRAINING: (
            "상품이 몇 개야?",
            "몇 개가 보여?",
            "사진에 상품이 몇 개 있어?",
            "상품은 모두 몇 개예요?",
        ),
        HELD_OUT: ("이 사진에 상품이 몇 개예요?", "모두 몇 개야?"),
    },
    "is_type": {
        TRAINING: (
            "이건 {value 이에요/예요}?",
            "이 상품은 {value 이/가} 맞아?",
            "{value} 사진이야?",
            "{value 이/가} 보여?",
        ),
        HELD_OUT: ("이게 {value 이에요/예요}?", "사진에 있는 상품은 {value 이/가} 맞아?"),
    },
    "is_color": {
        TRAINING: (
            "{value 이에요/예요}?",
            "색깔은 {value 이/가} 맞아?",
            "{thing 은/는} {value 이에요/예요}?",
            "이 {thing} 색은 {value 이/가} 맞아?",
        ),
        HELD_OUT: ("이 상품은 {value 이에요/예요}?", "이 {thing 은/는} {value 이/가} 맞아?"),
    },
    "is_pattern": {
        TRAINING: (
            "{value 이에요/예요}?",
            "무늬는 {value 이/가} 맞아?",
            "{thing 은/는} {value 이에요/예요}?",
            "이 {thing} 무늬는 {value 이/가} 맞아?",
        ),
        HELD_OUT: ("이 상품은 {value 이에요/예요}?", "이 {thing 은/는} {value 이/가} 맞아?"),
    },
    "has": {
        TRAINING: (
            "{value 이/가} 있어?",
            "사진에 {value 이/가} 있어요?",
            "{value}도 보여?",
        ),
        HELD_OUT: ("이 사진에 {value 이/가} 있어?", "사진에 {value}도 있어요?"),
    },
    "which": {
        TRAINING: (
            "{value} 상품은 뭐야?",
            "{value}인 상품이 뭐예요?",
            "무슨 상품이 {value 이에요/예요}?",
        ),
        HELD_OUT: ("{value} 상품이 뭐야?", "사진에 있는 {value} 상품은 뭐예요?"),
    },
    "left_right": {
        TRAINING: (
            "{thing 은/는} 왼쪽이야, 오른쪽이야?",
            "{thing 이/가} 왼쪽에 있어, 오른쪽에 있어?",
        ),
        HELD_OUT: ("{thing 은/는} 왼쪽에 있어, 오른쪽에 있어?",),
    },
    "top_bottom": {
        TRAINING: (
            "{thing 은/는} 위야, 아래야?",
            "{thing 이/가} 위에 있어, 아래에 있어?",
        ),
        HELD_OUT: ("{thing 은/는} 위에 있어, 아래에 있어?",),
    },
}
# Of one thing among several the same is asked by its name, for it would be meant by no other word.
for _kind in ("color", "pattern"):
    WORDINGS[f"{_kind}_of"] = {
        name: tuple(one for one in wordings if "{thing" in one)
        for name, wordings in WORDINGS[_kind].items()
    }

# How much likelier than another pattern plain cloth is asked about where the answer is no. In
# training 7 of 24 garments are plain and each other pattern is 17 of 168; then a value is asked
# about with no as often as with yes. In the test split all patterns are alike.
_PLAIN = {"train": 4.2, "test": 1.0}

# A thing nearer to the middle than this share of the side lies neither left nor right.
_MIDDLE = 0.1


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What can be asked: of which kind, about which words, with which answer."""

    kind: str
    thing: str = ""
    value: str = ""
    answer: str


def ask(
    garments: Sequence[Garment],
    boxes: Sequence[Box],
    *,
    side: int,
    split: Split,
    rng: Random,
) -> list[dict[str, str]]:
    """The questions of a record; each in a wording for training, in the test split in both.

    Args:
        boxes: one a garment, pixels of a picture of ``side`` pixels.
    """
    names = (TRAINING,) if split == "train" else (TRAINING, HELD_OUT)
    found: list[dict[str, str]] = []
    for fact in facts(garments, boxes, side=side, split=split, rng=rng):
        for name in names:
            question = Question(
                question=worded(rng.choice(WORDINGS[fact.kind][name]), fact),
                answer=fact.answer,
                kind=fact.kind,
                wording=name,
            )
            found.append(asdict(question))
    return found


def worded(wording: str, fact: Fact) -> str:
    """A wording with the fact's words, each with the form of its particle."""
    for name, word in (("thing", fact.thing), ("value", fact.value)):
        wording = wording.replace(f"{{{name}}}", word)
        for pair in PARTICLES:
            wording = wording.replace(f"{{{name} {pair}}}", with_particle(word, pair))
    return wording


def facts(
    garments: Sequence[Garment],
    boxes: Sequence[Box],
    *,
    side: int,
    split: Split,
    rng: Random,
) -> Iterator[Fact]:
    """What is asked about a picture of one garment, or of several."""
    yield Fact(kind="count", answer=NUMBERS[len(garments)])
    if len(garments) == 1:
        yield from _of_one(garments[0], split, rng)
    else:
        yield from _of_several(garments, boxes, side, rng)


def _of_one(garment: Garment, split: Split, rng: Random) -> Iterator[Fact]:
    thing = KINDS[garment.kind].ko
    colour, pattern = COLOURS_BY_KEY[garment.colour].ko, PATTERNS_BY_KEY[garment.pattern].ko
    yield Fact(kind="type", answer=thing)
    yield Fact(kind="color", thing=thing, answer=colour)
    yield Fact(kind="pattern", thing=thing, answer=pattern)
    kinds = [kind.ko for kind in KINDS.values()]
    yield _yes_or_no("is_type", "", thing, kinds, [1.0] * len(kinds), rng)
    colours = [one.ko for one in COLOURS_BY_KEY.values()]
    yield _yes_or_no("is_color", thing, colour, colours, [1.0] * len(colours), rng)
    patterns = [one.ko for one in PATTERNS_BY_KEY.values()]
    weights = [_PLAIN[split] if key == "solid" else 1.0 for key in PATTERNS_BY_KEY]
    yield _yes_or_no("is_pattern", thing, pattern, patterns, weights, rng)


def _yes_or_no(
    kind: str,
    thing: str,
    true: str,
    values: Sequence[str],
    weights: Sequence[float],
    rng: Random,
) -> Fact:
    if rng.random() < 0.5:
        return Fact(kind=kind, thing=thing, value=true, answer=YES)
    others = [
        weight if value != true else 0.0 for value, weight in zip(values, weights, strict=True)
    ]
    return Fact(kind=kind, thing=thing, value=rng.choices(values, others)[0], answer=NO)


def _of_several(
    garments: Sequence[Garment], boxes: Sequence[Box], side: int, rng: Random
) -> Iterator[Fact]:
    def drawn() -> Garment:
        return rng.choice(garments)

    one, other = drawn(), drawn()
    colour, pattern = COLOURS_BY_KEY[one.colour].ko, PATTERNS_BY_KEY[other.pattern].ko
    yield Fact(kind="color_of", thing=KINDS[one.kind].ko, answer=colour)
    yield Fact(kind="pattern_of", thing=KINDS[other.kind].ko, answer=pattern)
    shown = {garment.kind for garment in garments}
    absent = rng.choice([kind.ko for key, kind in KINDS.items() if key not in shown])
    present = KINDS[drawn().kind].ko
    yes = rng.random() < 0.5
    yield Fact(kind="has", value=present if yes else absent, answer=YES if yes else NO)
    colours = [garment.colour for garment in garments]
    unique = [garment for garment in garments if colours.count(garment.colour) == 1]
    if unique:
        which = rng.choice(unique)
        name = COLOURS_BY_KEY[which.colour].ko
        yield Fact(kind="which", value=name, answer=KINDS[which.kind].ko)
    for kind, axis, words in (
        ("left_right", 0, ("왼쪽", "오른쪽")),
        ("top_bottom", 1, ("위", "아래")),
    ):
        # In a picture of three, two lie on one side: each side is asked about as often.
        sides: tuple[list[Garment], list[Garment]] = ([], [])
        for garment, box in zip(garments, boxes, strict=True):
            off = (box[axis] + box[axis + 2]) / (2 * side) - 0.5
            if abs(off) >= _MIDDLE:
                sides[off > 0].append(garment)
        if all(sides):
            far = rng.randrange(2)
            thing = KINDS[rng.choice(sides[far]).kind].ko
            yield Fact(kind=kind, thing=thing, answer=words[far])
