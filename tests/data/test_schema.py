from __future__ import annotations

import json

import pytest

from kmm_jax.data.schema import parse_record, texts
from kmm_jax.errors import DataError

SLIDE = {
    "image_hash": " 0001809359 ",
    "image_url": "--",
    "image_size": [512, 317],
    "title": "사회인 야구유니폼 제작은 어디서? 고민하지말고 직접 확인하세요!",
    "query": ["야구 유니폼 제작", "야구 유니폼"],
    "title_kelip_score": 0.40019,
    "query_count": [5, 2],
    "query_kelip_score": [0.40338, 0.42050],
    "image_white_pixel_ratio": 0.02587890625,
    "watermark_score": 0.22796085476875305,
    "ocr_num_box": 1,
    "ocr_ratio_box": 1.1510213216145835,
}


def raw(**changes: object) -> bytes:
    return json.dumps({**SLIDE, **changes}, ensure_ascii=False).encode()


def test_the_slides_own_record_is_valid_and_its_hash_is_stripped() -> None:
    record = parse_record(raw())
    assert record == {**SLIDE, "image_hash": "0001809359"}


def test_null_scores_and_unknown_fields_are_kept() -> None:
    record = parse_record(
        raw(title_kelip_score=None, query_kelip_score=[None, 0.1], labels={"type": "Shirts"})
    )
    assert record["title_kelip_score"] is None
    assert record["labels"] == {"type": "Shirts"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_hash", None),
        ("image_hash", "  "),
        ("image_hash", 1809359),
        ("image_size", [512]),
        ("image_size", [512, -1]),
        ("title", ["제목"]),
        ("query", "야구 유니폼"),
        ("query", ["야구", 3]),
        ("query_count", [5]),
        ("query_count", [5, -1]),
        ("query_kelip_score", [0.4]),
        ("query_kelip_score", ["높음", 0.1]),
        ("watermark_score", "0.2"),
        ("watermark_score", float("nan")),
        ("ocr_num_box", 1.5),
        ("ocr_num_box", True),
        ("attributes", ["빨강"]),
        ("attributes", {"색상": {"값": "빨강"}}),
        ("boxes", {"x": 1}),
    ],
)
def test_an_error_names_the_field(field: str, value: object) -> None:
    with pytest.raises(DataError, match=field):
        parse_record(raw(**{field: value}))


@pytest.mark.parametrize(
    "bad", [b"", b"{", b"[1]", b"null", b'{"image_hash": "\xb0\xa1"}', b"[" * 100_000]
)
def test_bytes_that_are_no_record_are_refused(bad: bytes) -> None:
    with pytest.raises(DataError):
        parse_record(bad)


@pytest.mark.parametrize("empty", ["", "   ", "\u200b\u200b", None])
def test_a_record_needs_one_text_that_shows(empty: str | None) -> None:
    with pytest.raises(DataError, match="no text"):
        parse_record(raw(title=empty, query=[], query_count=[], query_kelip_score=[]))
    assert parse_record(raw(title=empty))


def test_attributes_alone_are_not_enough() -> None:
    with pytest.raises(DataError, match="no text"):
        parse_record(json.dumps({"image_hash": "1", "attributes": {"색상": "빨강"}}).encode())


def test_queries_weigh_by_their_counts() -> None:
    assert texts(parse_record(raw())) == [
        ("title", SLIDE["title"], 1.0),
        ("query", "야구 유니폼 제작", 5.0),
        ("query", "야구 유니폼", 2.0),
    ]


def test_a_query_never_clicked_is_left_out_unless_none_was() -> None:
    clicked = texts(parse_record(raw(query_count=[0, 2])))
    assert [text for field, text, _ in clicked if field == "query"] == ["야구 유니폼"]
    never = texts(parse_record(raw(query_count=[0, None])))
    assert [weight for field, _, weight in never if field == "query"] == [1.0, 1.0]


def test_attributes_become_one_text_and_captions_may_be_several() -> None:
    found = texts(
        parse_record(
            raw(
                caption=["빨간 셔츠", "체크 셔츠", ""],
                attributes={"색상": ["빨강", "흰색"], "패턴": "체크", "소재": None},
            )
        )
    )
    assert ("attributes", "색상 빨강 흰색, 패턴 체크", 1.0) in found
    assert [text for field, text, _ in found if field == "caption"] == ["빨간 셔츠", "체크 셔츠"]
