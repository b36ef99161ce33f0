"""The table of thumbnails: the slide's own numbers, hostile files, kills, and honest floors."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmm_jax.errors import DataError
from kmm_jax.evaluation import thumbnail_page
from kmm_jax.evaluation.thumbnail_log import (
    Item,
    Label,
    Log,
    LogWriter,
    Pair,
    Pick,
    read_log,
    read_pairs,
    to_line,
    write_picks,
)
from kmm_jax.evaluation.thumbnails import ThumbnailTable, column, table

# Slide 5.2: shown, above 2, mean.
SLIDE = {"ASIS": (60, 47, 3.133), "base": (49, 45, 3.327), "large": (44, 42, 3.455)}


def scores_like(shown: int, over_2: int, mean: float) -> list[int]:
    """Whole scores with these figures, as many as possible of them 3 and the poor ones 2 or 1."""
    poor = shown - over_2
    total = round(mean * shown)
    for ones, fours, fives in itertools.product(range(poor + 1), range(over_2 + 1), range(3)):
        if fours + fives <= over_2 and total == 2 * poor - ones + 3 * over_2 + fours + 2 * fives:
            threes = over_2 - fours - fives
            return [1] * ones + [2] * (poor - ones) + [3] * threes + [4] * fours + [5] * fives
    raise AssertionError


def picks_of(model: str, scores: list[int], pairs: int) -> tuple[list[Pick], list[Label]]:
    picks, labels = [], []
    for number in range(pairs):
        pair = Pair(f"질의 {number}", f"글 {number}")
        shown = number < len(scores)
        pick = Pick(model=model, pair=pair, image=f"{model}{number}", similarity=0.3, shown=shown)
        picks.append(pick)
        if shown and pick.item:
            labels.append(Label(item=pick.item, rater="김", score=scores[number]))
    return picks, labels


@pytest.fixture(scope="module")
def slide() -> ThumbnailTable:
    logs = []
    for model, figures in SLIDE.items():
        picks, labels = picks_of(model, scores_like(*figures), 60)
        logs.append(Log(picks=tuple(picks), labels=tuple(labels)))
    return table(logs)


def test_the_slides_table_comes_of_scores_with_its_figures(slide: ThumbnailTable) -> None:
    about = thumbnail_page.to_markdown(slide, {})
    assert "| | ASIS | base | large |" in about
    cells = {
        line.split("|")[1].strip(): [cell.split(" [")[0].strip() for cell in line.split("|")[2:-1]]
        for line in about.splitlines()
        if line.startswith("| ")
    }
    assert cells["Coverage"] == ["60 (100.0%)", "49 (81.7%)", "44 (73.3%)"]
    assert [cell.split()[0] for cell in cells["Image_score > 2"]] == ["47", "45", "42"]
    # The slide calls this row "Image_score > 3", and no scores have its other figures and that.
    assert cells["Image_score ≤ 2 (저품질)"] == ["13 (21.7%)", "4 (8.2%)", "2 (4.5%)"]
    mean = cells["Mean Image_score after filtering (필터 후 평균)"]
    assert mean == ["3.133", "3.327", "3.455"]


def test_figures_are_those_of_counting_and_lie_in_their_intervals() -> None:
    rng = np.random.default_rng(0)
    scores, shown = rng.integers(1, 6, size=80), rng.uniform(size=80) < 0.7
    found = column("m", scores, shown, [f"q{n // 2}" for n in range(80)])
    kept = scores[shown]
    assert found.coverage.count == shown.sum() and found.coverage.value == shown.mean()
    assert found.over_2.count == sum(kept > 2) and found.over_3.count == sum(kept > 3)
    assert found.dangerous.count == sum(kept == 1)
    assert found.over_2.value + found.poor.value == pytest.approx(1)
    assert found.mean.value == kept.mean()
    for figure in (found.coverage, found.over_2, found.over_3, found.poor, found.mean):
        assert figure.low <= figure.value <= figure.high
    # 39 or 40 groups of two, of which the spread is that of their means.
    width = found.mean.high - found.mean.low
    assert width == pytest.approx(2 * 1.96 * kept.std() / math.sqrt(len(kept)), rel=0.35)


def test_one_query_says_nothing_of_others() -> None:
    found = column("m", np.asarray([4, 2, 3]), np.ones(3), ["q", "q", "q"])
    assert found.over_2.value == pytest.approx(2 / 3)
    assert (found.over_2.low, found.over_2.high) == (0, 1)
    assert (found.mean.low, found.mean.value, found.mean.high) == (1, 3, 5)


def test_what_shows_nothing_has_no_figures_and_still_a_table() -> None:
    found = column("m", np.zeros(4), np.zeros(4), list("abcd"))
    assert found.coverage.count == 0 and found.coverage.high > 0.3
    assert found.mean.value is None and found.over_2.count == 0
    whole = ThumbnailTable(
        columns=(found,), pairs=4, of_pairs=4, raters={"김": 4}, agreement=(), strange=0
    )
    assert "| Image_score > 2 | – |" in thumbnail_page.to_markdown(whole, {})
    json.dumps(thumbnail_page.to_json(whole, {}), allow_nan=False)


def test_of_several_raters_the_median_counts_and_of_two_the_lower_one() -> None:
    picks, _ = picks_of("m", [3, 3, 3], 3)

    def said(rater: str, *scores: int | None) -> list[Label]:
        return [
            Label(item=pick.item, rater=rater, score=score)
            for pick, score in zip(picks, scores, strict=True)
            if pick.item
        ]

    labels = [
        *said("김", 4, 2, 5),
        *said("이", 2, 3, 5),
        *said("이", None, 4, 5),
        *said("박", 5, 3, 1),
    ]
    found = table([Log(picks=tuple(picks), labels=tuple(labels))])
    # 김 4 and 박 5: 4; 2, 4, 3: 3; 5, 5, 1: 5. What 이 took back counts no more.
    assert found.columns[0].mean.value == pytest.approx((4 + 3 + 5) / 3)
    assert found.raters == {"김": 3, "박": 3, "이": 2}
    assert [(each.first, each.second, each.common) for each in found.agreement] == [
        ("김", "박", 3), ("김", "이", 2), ("박", "이", 2),
    ]  # fmt: skip


def test_pairs_without_all_their_labels_wait_and_strange_labels_are_counted() -> None:
    first, labels = picks_of("a", [3] * 6, 6)
    second, more = picks_of("b", [4] * 5, 6)
    strange = Label(item=Item(first[0].pair, "?"), rater="김", score=1)
    logs = [Log(picks=(*first, *second), labels=(*labels, *more[1:], strange))]
    found = table(logs)
    assert (found.pairs, found.of_pairs, found.strange) == (5, 6, 1)
    assert [each.coverage.count for each in found.columns] == [5, 4]
    assert "5 of 6; the others lack labels" in thumbnail_page.to_markdown(found, {})
    with pytest.raises(DataError, match="not one is labelled; label them"):
        table([Log(picks=tuple(first), labels=())])


def test_a_floor_is_found_from_labels_and_measured_on_others() -> None:
    rng = np.random.default_rng(0)
    picks, labels = [], []
    for number in range(400):
        pair, similarity = Pair(f"{number // 2}", f"{number}"), float(rng.uniform(0.1, 0.5))
        pick = Pick(model="m", pair=pair, image="i", similarity=similarity, shown=True)
        picks.append(pick)
        poor = rng.uniform() < 0.8 - 1.6 * similarity
        labels.append(Label(item=Item(pair, "i"), rater="김", score=2 if poor else 4))
    plain, floored = table([Log(picks=tuple(picks), labels=tuple(labels))], most_bad=0.15).columns
    assert plain.floor is None and plain.coverage.count == 400 and plain.poor.value > 0.2
    floor = floored.floor
    assert floor is not None and 0.2 < floor.value < 0.5 and floor.bad_share <= 0.15
    by_hand = [pick.similarity for pick in picks if (pick.similarity or 0) >= floor.value]
    assert floor.shown == len(by_hand)
    assert 0 < floored.coverage.count < 400
    assert floored.poor.value < plain.poor.value
    assert floored.poor.low < 0.15 < floored.poor.high + 0.05
    page = thumbnail_page.to_markdown(
        ThumbnailTable(columns=(floored,), pairs=1, of_pairs=1, raters={}, agreement=(), strange=0),
        {},
    )
    written = float(page.split("--floor ")[1].split("`")[0])
    assert written <= floor.value < written + 1e-6


def test_where_every_picture_is_bad_no_floor_does() -> None:
    picks, labels = picks_of("m", [1] * 10, 10)
    log = Log(picks=tuple(picks), labels=tuple(labels))
    floored = table([log], most_bad=0.05).columns[1]
    assert floored.coverage.count == 0 and floored.floor and floored.floor.shown == 0
    found = table([log], most_bad=0.05)
    assert "no floor keeps the bound" in thumbnail_page.to_markdown(found, {})
    assert thumbnail_page.to_json(found, {})["columns"][1]["floor"]["value"] is None


def test_models_must_be_told_apart_and_choose_on_the_same_pairs() -> None:
    picks, labels = picks_of("a", [3] * 3, 3)
    other = Pick(model="a", pair=picks[0].pair, image="other", similarity=0.1, shown=True)
    with pytest.raises(DataError, match="'a' has two choices for '질의 0'"):
        table([Log(picks=(*picks, other), labels=tuple(labels))])
    twice = Log(picks=tuple(picks), labels=tuple(labels))
    assert table([twice, twice]).columns[0].pairs == 3
    fewer, _ = picks_of("b", [3] * 2, 2)
    with pytest.raises(DataError, match="'b' says nothing of 1 of 3 pairs, such as '질의 2'"):
        table([Log(picks=(*picks, *fewer), labels=tuple(labels))])
    with pytest.raises(DataError, match="no model's choices"):
        table([Log(picks=(), labels=tuple(labels))])


def test_names_of_users_do_not_break_the_table() -> None:
    picks, labels = picks_of("a|b", [3], 1)
    page = thumbnail_page.to_markdown(
        table([Log(picks=tuple(picks), labels=tuple(labels))]), {"command": "a | b\n| c"}
    )
    assert "| | a\\|b |" in page and "- command: a \\| b \\| c" in page


PICK = {"kind": "pick", "model": "m", "query": "가", "document": "1", "image": "h", "similarity": 1}
LABEL = {"kind": "label", "query": "가", "document": "1", "image": "h", "rater": "김", "score": 3}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**LABEL, "score": 6}, "whole number from 1 to 5, found 6"),
        ({**LABEL, "score": 0}, "from 1 to 5"),
        ({**LABEL, "score": True}, "from 1 to 5, found True"),
        ({**LABEL, "score": 3.0}, "from 1 to 5, found 3.0"),
        ({**LABEL, "score": "3"}, "from 1 to 5"),
        ({**LABEL, "rater": " "}, "rater is a name on one line"),
        ({**LABEL, "rater": "a\nb"}, "rater is a name on one line"),
        ({**LABEL, "rater": "x" * 201}, "rater has 201 characters"),
        ({**LABEL, "image": None}, "a label needs an image"),
        ({**LABEL, "query": "", "query_image": ""}, "a pair needs"),
        ({**LABEL, "document": ["1"]}, "document is a text"),
        ({**LABEL, "kind": "labl"}, 'kind is "pick" or "label"'),
        ({**PICK, "similarity": float("nan")}, "NaN is no number of JSON"),
        ({**PICK, "similarity": float("inf")}, "Infinity is no number"),
        ({**PICK, "similarity": 10**400}, "similarity is a number or null"),
        ({**PICK, "similarity": True}, "similarity is a number or null"),
        ({**PICK, "similarity": None}, "a pick with an image has its similarity"),
        ({**PICK, "image": "", "similarity": None, "shown": True}, "one without is not shown"),
        ({**PICK, "shown": 1}, "shown is true or false"),
        ({**PICK, "model": ""}, "model is a name on one line"),
        ({**PICK, "title": "\ud800"}, "lone surrogate"),
        ([LABEL], "expected an object"),
        ("x", "expected an object"),
    ],
)
def test_lines_that_cannot_be_are_named(row: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(f"{json.dumps(LABEL)}\n\n{json.dumps(row)}\n", "utf-8")
    with pytest.raises(DataError, match=message) as error:
        read_log(path)
    assert "labels.jsonl, line 3: " in str(error.value)


@pytest.mark.parametrize(
    "line", [b"{", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"{}\n", b"null\n", b"1e999\n"]
)
def test_bytes_that_are_no_rows_are_an_error_and_at_the_end_a_cut_line(
    line: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "labels.jsonl"
    whole = json.dumps(LABEL).encode() + b"\n"
    path.write_bytes(whole + line.strip() + b"\n" + whole)
    with pytest.raises(DataError, match="line 2"):
        read_log(path)
    path.write_bytes(whole + line.strip())
    found = read_log(path)
    assert found.torn and len(found.labels) == 1


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(b" " * (3 << 20))
    with pytest.raises(DataError, match="line 1 has more than 1,048,576 bytes"):
        read_log(path)
    with pytest.raises(DataError, match="is no file"):
        read_log(tmp_path / "none")


def test_rows_survive_their_file_and_what_was_cut_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    picks, labels = picks_of("모델", [3, 5], 3)
    writer = LogWriter(path)
    writer.append([*picks, labels[0]])
    writer.close()
    whole = path.read_bytes()
    for cut in (1, 20, len(to_line(labels[1]).encode())):
        path.write_bytes(whole + to_line(labels[1]).encode()[:cut])
        writer = LogWriter(path)
        writer.append([labels[1]])
        writer.close()
        found = read_log(path)
        assert found.picks == tuple(picks) and not found.torn
        assert found.labels[0] == labels[0] and set(found.labels) == set(labels)
    write_picks(tmp_path / "p.jsonl", picks)
    assert read_log(tmp_path / "p.jsonl").picks == tuple(picks)
    assert read_pairs(tmp_path / "p.jsonl") == [pick.pair for pick in picks]
    (tmp_path / "q.jsonl").write_text(
        '{"query": "가", "document": "1"}\n{"query": "나"}\n', "utf-8"
    )
    with pytest.raises(DataError, match=r"q\.jsonl, line 2: a pair needs a document"):
        read_pairs(tmp_path / "q.jsonl")


def _append_for_ever(path: str) -> None:
    writer = LogWriter(path)
    for number in itertools.count():
        item = Item(Pair("질의" * 500, "글"), f"{number}")
        writer.append([Label(item=item, rater="김", score=1 + number % 5)])


def test_a_kill_costs_no_label_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    process = multiprocessing.get_context("spawn").Process(
        target=_append_for_ever, args=(str(path),)
    )
    process.start()
    while not path.exists() or path.stat().st_size < 20_000:
        time.sleep(0.01)
    os.kill(process.pid or 0, 9)
    process.join()
    LogWriter(path).close()
    found = read_log(path)
    assert [label.item.image for label in found.labels] == [
        str(number) for number in range(len(found.labels))
    ]
    assert len(found.labels) > 3 and not found.torn
