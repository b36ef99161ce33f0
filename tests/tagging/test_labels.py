"""Label sets as data, and what records state in their words."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, PATTERNS_BY_KEY
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.tagging.labels import label_set, label_sets, of_json
from kmm_jax.tagging.truth import Reader

FASHION = label_set("fashion")
COLOR, PATTERN = FASHION.groups


def keys(group: Any, stated: Any) -> set[str]:
    columns = FASHION.columns()[FASHION.groups.index(group)]
    pairs = zip(group.labels, stated.true_C[columns], strict=True)
    return {label.key for label, is_true in pairs if is_true}


def test_the_set_that_comes_along_words_its_prompts_as_the_slide_does() -> None:
    assert "fashion" in label_sets()
    colors = {texts[0] for texts in COLOR.prompts("ko")}
    patterns = {texts[0] for texts in PATTERN.prompts("ko")}
    assert colors >= {
        *("네이비색 옷", "보라색 옷", "빨간색 옷", "베이지색 옷"),
        *("검은색 옷", "녹색 옷", "파란색 옷", "흰색 옷"),
    }
    assert patterns >= {
        *("민무늬 의류", "꽃무늬 의류", "도트무늬 의류", "별무늬 의류"),
        *("하트무늬 의류", "줄무늬 의류", "체크무늬 의류"),
    }
    assert "navy clothes" in {texts[0] for texts in COLOR.prompts("en")}
    with pytest.raises(UserError, match="no prompts in 'de'"):
        COLOR.prompts("de")  # type: ignore[arg-type]


def test_it_knows_every_word_of_the_shop() -> None:
    reader = Reader(FASHION)
    for key, color in COLOURS_BY_KEY.items():
        for word in (key, color.ko):
            assert keys(COLOR, reader.read({"labels": {"color": word}})) == {key}
    for key, pattern in PATTERNS_BY_KEY.items():
        for word in (key, pattern.ko):
            assert keys(PATTERN, reader.read({"attributes": {"패턴": [word]}})) == {key}
    assert not any(reader.unknown.values())


def test_a_record_states_labels_in_any_of_its_places() -> None:
    reader = Reader(FASHION)
    found = reader.read(
        {
            "labels": {"color": "Navy Blue", "type": "tshirt"},
            "boxes": [{"color": "red", "pattern": "dot"}, {"color": "red", "pattern": "줄무늬"}],
            "items": [{"attributes": {"색상": "베이지"}}, "스카프"],
        }
    )
    assert keys(COLOR, found) == {"navy", "red", "beige"} and found.known_C.all()
    assert keys(PATTERN, found) == {"dot", "stripe"}
    only = reader.read({"attributes": {"색상": "보라색"}})
    color, pattern = FASHION.columns()
    assert only.known_C[color].all() and not only.known_C[pattern].any()
    assert not reader.read({"title": "빨간색 셔츠"}).known_C.any()


def test_a_word_that_is_no_label_leaves_its_group_unknown() -> None:
    reader = Reader(FASHION)
    found = reader.read({"labels": {"color": ["red", "Burgundy"], "pattern": "꽃무늬"}})
    color, pattern = FASHION.columns()
    assert not found.known_C[color].any() and found.known_C[pattern].all()
    assert reader.unknown["color"] == {"Burgundy": 1} and not reader.unknown["pattern"]


def test_of_a_group_with_one_label_two_are_not_known() -> None:
    values = FASHION.to_json()
    values["groups"][0]["several"] = False
    labels = of_json(json.loads(json.dumps(values)), "here")
    two = Reader(labels).read({"labels": {"color": ["red", "blue"]}})
    assert not two.known_C.any() and not two.true_C.any()


def test_a_set_goes_to_json_and_back(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(FASHION.to_json(), ensure_ascii=False), "utf-8")
    assert label_set(str(path)) == FASHION
    assert len(FASHION) == len(FASHION.labels) == FASHION.columns()[-1].stop


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda v: v.update(format="x"), DataError, "its format must be"),
        (lambda v: v.update(groups=[]), ConfigError, "at least one group"),
        (lambda v: v["groups"].append(v["groups"][0]), ConfigError, "the group 'color' twice"),
        (lambda v: v["groups"][0].pop("fields"), DataError, "has no 'fields'"),
        (lambda v: v["groups"][0].update(labels=[]), ConfigError, "has no label"),
        (lambda v: v["groups"][0].update(several=1), DataError, "several is true or false"),
        (lambda v: v["groups"][0].update(fields="색상"), DataError, "expected a list of texts"),
        (lambda v: v["groups"][0]["labels"][0].update(ko=""), ConfigError, "is empty"),
        (
            lambda v: v["groups"][0]["labels"][0]["words"].append("남색"),
            ConfigError,
            "the word '남색' stands for both",
        ),
        (
            lambda v: v["groups"][0].update(templates={"ko": ["{nam} 옷"]}),
            ConfigError,
            "has no {name}",
        ),
    ],
)
def test_what_is_wrong_with_a_set_is_told(change: Any, error: Any, message: str) -> None:
    values = copy.deepcopy(json.loads(json.dumps(FASHION.to_json())))
    change(values)
    with pytest.raises(error, match=message):
        of_json(values, "mine.json")


def test_a_set_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'fashion'"):
        label_set("fashon")
    with pytest.raises(DataError, match="cannot be read"):
        label_set(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        label_set(str(tmp_path / "bad.json"))
