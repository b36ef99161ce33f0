"""Composed queries: what people write, and the sums that come of it."""

import numpy as np
import pytest
from PIL import Image

from kmm_jax.errors import UserError
from kmm_jax.retrieval.compose import MOST_TERMS, NEUTRAL, combine, compose
from kmm_jax.retrieval.terms import (
    Term,
    composed,
    is_composed,
    neutral_of,
    opened,
    parse_terms,
    written,
)
from tests.search.colors import COLORS, Colors

RED, BAG, BLUE = np.eye(4)[0], np.eye(4)[1], np.eye(4)[2]
TEXT = np.eye(4)[3]  # what all texts share


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("+ 꽃무늬", [("꽃무늬", 1.0)]),
        ("- 빨간색*0.5", [("빨간색", -0.5)]),
        ("- 빨간색 + 파란색 * 2", [("빨간색", -1.0), ("파란색", 2.0)]),
        ("−  빨간색 ＋ 파란색×.5", [("빨간색", -1.0), ("파란색", 0.5)]),
        ('+ "빨강 + 파랑 * 2"*3', [("빨강 + 파랑 * 2", 3.0)]),
        ("+ 롱-슬리브 A+B 5-6세", [("롱-슬리브 A+B 5-6세", 1.0)]),
        ('+ 5" 파이프', [('5" 파이프', 1.0)]),
        ("+ 국내 카페 🧥", [("국내 카페 🧥", 1.0)]),
        ("+ 꽃무늬", [("꽃무늬", 1.0)]),
    ],
)
def test_terms_are_read_as_people_write_them(said: str, expected: list[tuple[str, float]]) -> None:
    assert [(term.text, term.weight) for term in parse_terms(said)] == expected


def test_pictures_have_boxes_or_what_is_looked_for_in_them() -> None:
    whole, box, seen, other = parse_terms(
        "+ @a b.jpg*2 - @c.png[0,0.5,1,1] + @d.png[신발]*.5 + @e[1].png"
    )
    assert (str(whole.image), whole.weight, whole.box) == ("a b.jpg", 2.0, None)
    assert (str(box.image), box.weight, box.box) == ("c.png", -1.0, (0, 0.5, 1, 1))
    assert (str(seen.image), seen.locate, seen.weight) == ("d.png", "신발", 0.5)
    assert (str(other.image), other.locate) == ("e[1].png", "")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("꽃무늬", "begins with"),
        ("꽃무늬 + 줄무늬", "begins with"),
        ("", "begins with"),
        ("+ ", "says nothing"),
        ("+ \u200b", "says nothing"),
        ("+ 빨강 + ", "says nothing"),
        ("+ *2", "says nothing"),
        ("+ @", "says nothing"),
        ("+ @a.png[]", "says nothing"),
        ("+ 빨강*", "weight"),
        ("+ 빨강*nan", "weight"),
        ("+ 빨강*1e3", "weight"),
        ("+ 빨강*-1", "weight"),
        ("+ 빨강*" + "9" * 400, "weight"),
        ("+ 빨강*101", "from -100 to 100"),
        ("+ @a.png[0,0,0,1]", "x0 < x1"),
        ("+ @a.png[0,0,nan,1]", "x0 < x1"),
        ("+ @a.png[-1,0,1,1]", "x0 < x1"),
        ("+ @a.png[0,0,1]", "a box is"),
        ("+ 가 " * (MOST_TERMS + 1), "at most 16 terms, got 17"),
        ("+ 가 " * 1_000_000, "at most 20,000 characters"),
        ('+ "" ' * 3_000, "at most 16"),
    ],
    ids=lambda value: value[:16],
)
def test_what_is_no_term_is_refused(said: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_terms(said)


def test_terms_are_written_as_they_are_read() -> None:
    for text in ("꽃무늬", "빨강 + 파랑 * 2", "A-B", "@home", "- 뺄셈"):
        for weight in (1.0, -0.5, 2.0):
            (again,) = parse_terms(written(Term(text=text, weight=weight)))
            assert (again.text, again.weight) == (text, weight)


def test_a_sign_alone_makes_terms_of_a_text() -> None:
    assert is_composed("+ 꽃무늬") and is_composed(" - 빨강") and is_composed("−\t빨강")
    assert not any(map(is_composed, ("꽃무늬", "+82", "-빨강", "롱 - 슬리브", "")))


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({}, "give one of them"),
        ({"text": " \u200b"}, "give one of them"),
        ({"text": "a", "vector": RED}, "give one of them"),
        ({"text": "a", "weight": float("nan")}, "weight"),
        ({"text": "a", "weight": float("-inf")}, "weight"),
        ({"text": "a", "weight": 1e9}, "weight"),
        ({"text": "a", "box": (0, 0, 1, 1)}, "needs the picture"),
        ({"vector": RED, "locate": "신발"}, "needs the picture"),
    ],
)
def test_what_cannot_be_a_term_is_refused(terms: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Term(**terms)


def test_a_sum_of_two_is_what_compose_makes_of_them() -> None:
    for weight in (0.0, 0.2, 0.5, 0.9, 1.0):
        two = combine([RED, BAG], [weight, 1 - weight])
        np.testing.assert_allclose(two, compose(RED, BAG, weight), atol=1e-7)
    np.testing.assert_allclose(combine([3 * RED], [0.2]), RED)
    np.testing.assert_allclose(combine([RED, BAG], [1e30, 1e30]), combine([RED, BAG], [1, 1]))


def test_weights_below_nought_lead_away() -> None:
    found = combine([BAG, RED, BLUE], [1, -0.5, 2])
    np.testing.assert_allclose(found, np.array([-0.5, 1, 2, 0]) / np.sqrt(5.25), rtol=1e-6)


def test_as_directions_texts_lose_what_all_texts_share() -> None:
    texts = [(TEXT + 0.5 * one) / np.linalg.norm(TEXT + 0.5 * one) for one in (RED, BLUE)]
    neutral = 0.9 * TEXT
    asked = {"are_texts": [False, True, True], "form": "directions", "neutral": neutral}
    found = combine([BAG, *texts], [1, -1, 1], **asked)
    assert abs(float(found @ TEXT)) < 1e-6
    # Of a pair the neutral part goes anyway: both forms lead the same way.
    points = combine([BAG, *texts], [1, -1, 1])
    ways = [one - one @ BAG * BAG for one in (found, points)]
    assert ways[0] @ ways[1] / np.prod([np.linalg.norm(one) for one in ways]) > 0.999
    # Of one alone it would be most of what is added.
    asked |= {"are_texts": [False, True]}
    assert combine([BAG, texts[1]], [1, 1], **asked) @ TEXT < 0.2
    assert combine([BAG, texts[1]], [1, 1]) @ TEXT > 0.5


@pytest.mark.parametrize(
    ("vectors", "weights", "words"),
    [
        ([], [], "at least one"),
        ([RED], [1, 2], "give each its own"),
        ([RED, BAG], [1, float("nan")], "numbers"),
        ([RED, BAG], [1, float("inf")], "numbers"),
        ([RED, RED], [1, -1], "cancel"),
        ([RED, BAG], [0, 0], "are 0"),
        ([RED, np.ones(3)], [1, 1], "one dimension"),
        ([RED] * 99, [1] * 99, "at most"),
    ],
)
def test_what_makes_no_sum_is_refused(vectors: list, weights: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        combine(vectors, weights)


def test_a_query_is_its_beginning_and_its_terms() -> None:
    encoder = Colors()
    red, blue = (Image.new("RGB", (8, 8), COLORS[name]) for name in ("빨간", "파란"))
    asked = composed(encoder.embed_image([red])[0], parse_terms("- 빨간 + 파란"), encoder)
    near = encoder.embed_image([red, blue]) @ asked
    assert near[1] > 0.9 > 0.4 > near[0]
    for terms in (
        [Term(image=blue)],
        [Term(vector=encoder.embed_image([blue])[0])],
        [Term(text="파란")],
        [Term(text="파란"), Term(text="빨간", weight=-0.5)],
    ):
        found = composed(None, terms, encoder)
        assert encoder.embed_image([blue])[0] @ found > 0.7
    assert np.argmin(encoder.embed_image([red, blue]) @ composed(
        None, [Term(text="빨간", weight=-1)], encoder)
    ) == 0  # fmt: skip
    np.testing.assert_allclose(neutral_of(encoder), encoder.embed_text(NEUTRAL).mean(axis=0))


def test_a_part_of_a_picture_counts_alone() -> None:
    encoder = Colors()
    both = Image.new("RGB", (40, 20), COLORS["빨간"])
    both.paste(COLORS["파란"], (20, 0, 40, 20))
    terms = opened(parse_terms("+ @x.png[0.5,0,1,1]"), lambda path: both)
    blue = encoder.embed_text(["파란"])[0]
    assert composed(None, terms, encoder) @ blue > 0.95
    with pytest.raises(UserError, match="makes no heat-maps"):
        composed(None, [Term(image=both, locate="파란")], encoder)
    with pytest.raises(UserError, match="at most 16"):
        composed(None, [Term(text="x")] * 17, encoder)
