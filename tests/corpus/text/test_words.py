"""Word lists: boundaries, disguises, everyday words, lists of a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmm_jax.corpus.text import TextRules, clean
from kmm_jax.corpus.text.words import lists_mark
from kmm_jax.errors import DataError


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("아 씨발 뭐야", "씨발"),
        ("시1발 진짜", "시1발"),
        ("야 시 발 놈아", "시 발"),
        ("씨@@발", "씨@@발"),
        ("ㅅㅂ 짜증", "ㅅㅂ"),
        ("ㅆㅣ발 뭐냐고 정말", "ㅆㅣ발"),
        ("이런 개새끼야", "개새끼야"),
        ("병신같은 소리", "병신"),
    ],
)
def test_curses_are_found_in_their_disguises(text: str, hit: str) -> None:
    start = text.index(hit)
    assert (start, start + len(hit), "profanity") in clean(text).spans


@pytest.mark.parametrize(
    "text",
    [
        "이 문제의 시발점",
        "버스 시발역 안내",
        "새끼손가락 반지",
        "새끼 고양이 분양",
        "병신년 새해 인사",
        "도시 발전 계획",
        "오후 3시 발표",
        "아저씨 발이 커요",
        "전염병 예방",
        "번개같은 배송",
        "유니섹스 티셔츠",
        "음식을 꼭꼭 씹어 먹기",
        "일본 자위대",
        "에로스와 프시케",
        "제주가 좋아요, 맥주가 좋아요",
        "이번 주가 마지막",
        "악보다 선",
    ],
)
def test_everyday_words_are_kept(text: str) -> None:
    assert clean(text).decision == "keep"


@pytest.mark.parametrize("word", ["로또", "주가", "영수증", "확진자", "지원금", "악보"])
def test_the_noise_topics_of_the_slide_are_listed(word: str) -> None:
    assert clean(f"오늘의 {word} 모음").reasons == ("noise_topic",)


def test_a_user_adds_entries_and_exceptions(tmp_path: Path) -> None:
    more, allow = tmp_path / "more.txt", tmp_path / "allow.txt"
    more.write_text("# ours\n|멍청이|  # mild\n~바보\n", "utf-8")
    allow.write_text("바보사랑\n", "utf-8")
    rules = TextRules(profanity_lists=(more,), allow_lists=(allow,))
    assert clean("멍청이가 왔다", rules).reasons == ("profanity",)
    assert clean("멍청이들판", rules).reasons == ()
    assert clean("바.보 같다", rules).reasons == ("profanity",)
    assert clean("바보사랑 쇼핑몰", rules).reasons == ()


def test_a_list_that_cannot_be_read_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text("낱말\n||\n", "utf-8")
    with pytest.raises(DataError, match="line 2"):
        clean("", TextRules(adult_lists=(path,)))
    path.write_bytes("낱말".encode("cp949"))
    with pytest.raises(DataError, match="not UTF-8"):
        clean("", TextRules(adult_lists=(path,)))


def test_a_list_that_changed_is_read_again(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("악보\n모의고사\n", "utf-8")
    rules = TextRules(noise_topic_lists=(words,))
    assert clean("수능 모의고사 문제", rules).decision == "reject"
    before = lists_mark(rules)
    words.write_text("악보\n", "utf-8")
    assert clean("수능 모의고사 문제", rules).decision == "keep"
    assert lists_mark(rules) != before != lists_mark(TextRules())
