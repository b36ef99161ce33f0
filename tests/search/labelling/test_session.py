"""Who scores what next: each picture once, in an order of one's own, across stops and undo."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from kmm_jax.errors import DataError
from kmm_jax.evaluation.thumbnail_log import Pair, Pick, read_log
from kmm_jax.search.labelling.session import Session, check_rater


def picks(*models: str, pairs: int = 12) -> list[Pick]:
    """Models choose alike, but ``large`` of every third pair."""
    return [
        Pick(
            model=model,
            pair=Pair(f"질의 {number}", f"글 {number}"),
            image="b" if model == "large" and number % 3 == 0 else "a",
            path=f"{number}.png",
            similarity=0.2,
            shown=number % 2 == 0,
            title="제목",
        )
        for model in models
        for number in range(pairs)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.jsonl"


def scored(session: Session, rater: str, most: int = 99, score: int = 3) -> list[str]:
    """Score what comes; says what came."""
    came = []
    while len(came) < most and (tasks := session.next(rater)):
        came.append(tasks[0].id)
        session.score(rater, tasks[0].id, score)
    return came


def test_each_picture_comes_once_whatever_models_chose_it(path: Path) -> None:
    with Session(path, picks("base", "large")) as session:
        assert len(session.tasks) == 16  # 12 and four that only one of them chose
        first = scored(session, "김")
        assert sorted(first) == sorted(session.tasks) and session.next("김") == []
        second = scored(session, "이")
        # The orders differ, from each other and from the file's.
        assert sorted(second) == sorted(first) and len({*map(tuple, (first, second))}) == 2
        assert first != list(session.tasks)
        assert session.progress("김") == (16, 16) and session.progress("박") == (0, 16)


def test_whoever_stops_goes_on_where_they_stopped_and_what_is_added_comes_too(path: Path) -> None:
    with Session(path, picks("base")) as session:
        whole = [task.id for task in session.next("김", 99)]
        assert scored(session, "김", 5) == whole[:5]
    with Session(path) as session:
        assert [task.id for task in session.next("김", 99)] == whole[5:]
        assert len(read_log(path).picks) == 12  # not written twice
    with Session(path, picks("base", "large")) as session:
        rest = [task.id for task in session.next("김", 99)]
        assert len(rest) == 16 - 5 and [id for id in rest if id in whole] == whole[5:]
    assert len(read_log(path).picks) == 24


def test_undo_takes_back_score_by_score_across_a_stop(path: Path) -> None:
    with Session(path, picks("base")) as session:
        came = scored(session, "김", 3)
        scored(session, "이", 2)
    with Session(path) as session:
        undone = [task.id if (task := session.undo("김")) else None for _ in range(4)]
        assert undone == [*reversed(came), None]
        assert session.progress("김").done == 0 and session.progress("이").done == 2
        assert session.next("김")[0].id == came[0]
        session.score("김", came[0], 5)
        session.score("김", came[0], 5)  # sent twice
        session.score("김", came[0], 4)
    labels = [label for label in read_log(path).labels if label.rater == "김"]
    assert [label.score for label in labels] == [3, 3, 3, None, None, None, 5, 4]


def test_raters_agree_as_far_as_they_do(path: Path) -> None:
    with Session(path, picks("base")) as session:
        for number, id in enumerate(session.tasks):
            session.score("김", id, 1 + number % 5)
            session.score("이", id, 1 + number % 5 if number else 2)
        (found,) = session.agreement()
        assert (found.first, found.second, found.common) == ("김", "이", 12)
        assert found.kappa is not None and 0.9 < found.kappa < 1
        assert session.raters() == {"김": (12, 12), "이": (12, 12)}


def test_many_threads_write_whole_lines(path: Path) -> None:
    with Session(path, picks("base")) as session:
        threads = [threading.Thread(target=scored, args=(session, f"평가자 {n}")) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = read_log(path)
    assert len(found.labels) == 6 * 12 and not found.torn


def test_what_cannot_be_had_is_asked_of_nobody(path: Path) -> None:
    with Session(path, picks("base")) as session:
        session.lose(session.next("김")[0].id)
        assert len(scored(session, "김")) == 11 and session.progress("김") == (11, 11)
        assert session.lost == 1
    with Session(path) as session:
        assert session.progress("김") == (11, 12)  # it may be there again


def test_what_no_table_could_be_made_of_is_refused_before_anyone_works(path: Path) -> None:
    with pytest.raises(DataError, match="no model's choices"):
        Session(path)
    assert not path.exists()
    with pytest.raises(DataError, match="holds no pictures to label"):
        Session(path, [Pick(model="m", pair=Pair("가", "1"))])
    with pytest.raises(DataError, match="'large' says nothing of 1 of 12 pairs"):
        Session(path, picks("base", "large")[:-1])
    path.write_text(json.dumps({"kind": "label"}) + "\n", "utf-8")
    with pytest.raises(DataError, match="line 1: "):
        Session(path, picks("base"))
    path.unlink()
    with Session(path, picks("base")) as session, pytest.raises(DataError, match="no such picture"):
        session.score("김", "nothing", 3)


@pytest.mark.parametrize("name", ["", "  ", "a" * 61, "a\x00b", None, 3, ["김"]])
def test_a_rater_has_a_name(name: Any) -> None:
    with pytest.raises(DataError, match="1 to 60 characters"):
        check_rater(name)
    assert check_rater("  김  민수\n") == "김 민수"
