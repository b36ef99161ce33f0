"""The questions that `tools.composed` asks, and that their answers are counted rightly."""

from __future__ import annotations

import numpy as np
import pytest

from kmm_jax.data.shop.combinations import allowed
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS
from tools import composed
from tools.composed_crops import _iou
from tools.composed_queries import TASKS, Gallery, changes, draw, recalls


@pytest.fixture(scope="module")
def found() -> Gallery:
    combos = [
        (kind, colour, pattern)
        for kind in list(KINDS)[:2]
        for colour in COLOURS_BY_KEY
        for pattern in allowed(kind, colour, "train")
    ]
    places = {combo: [2 * number, 2 * number + 1] for number, combo in enumerate(combos)}
    vectors = np.repeat(np.eye(len(combos)), 2, axis=0)
    return Gallery(vectors=vectors, places=places, combos=combos, queries=np.eye(len(combos)))


@pytest.mark.parametrize("task", TASKS)
def test_one_attribute_changes_and_the_others_stay(task: str, found: Gallery) -> None:
    asked = changes(task, found)
    assert len(asked) > 20 and changes(task, found) == asked
    for change in asked:
        before, after = found.combos[change.row], change.wanted
        changed = [place for place in range(3) if before[place] != after[place]]
        assert changed == [1 if task.startswith("colour") else 2]
        assert change.plus == after[changed[0]]
        assert change.minus in (None, before[changed[0]])
        assert (change.minus is not None) == task.endswith("for another")
        assert change.wanted in found.places


def test_recall_is_the_share_of_what_is_looked_for(found: Gallery) -> None:
    wanted = found.combos[:3]
    queries = np.eye(len(found.combos))[:3].copy()
    assert recalls(found, queries, wanted).tolist() == [1, 1, 1]
    queries[1] = -queries[1]
    assert recalls(found, queries, wanted).tolist() == [1, 0, 1]


def test_the_same_pictures_are_drawn_again() -> None:
    combos = [("tshirt", "red", "dot"), ("hat", "blue", "stripe")]
    one, other = (draw(combos, "x", size=32) for _ in range(2))
    assert one.image.tobytes() == other.image.tobytes() and len(one.boxes) == 2
    assert draw(combos, "y", size=32).image.tobytes() != one.image.tobytes()


def test_overlaps_are_those_of_boxes() -> None:
    assert _iou((0, 0, 1, 1), (0, 0, 1, 1)) == 1
    assert _iou((0, 0, 0.5, 1), (0.5, 0, 1, 1)) == 0
    assert _iou((0, 0, 0.5, 1), (0.25, 0, 0.75, 1)) == pytest.approx(1 / 3)


def test_the_page_says_what_was_measured() -> None:
    row = {"recall": 0.5, "low": 0.4, "high": 0.6, "weight": 0.7}
    tasks = {task: {"queries": 9, "rows": {"terms as directions": row}} for task in TASKS}
    crops = {
        "scenes": 4, "reported": 5, "area": 0.2,
        "seen": {"the type": {"pointing": 0.6, "flat": 0.0, "iou_0.5": 0.3}},
        "margins": {"0.1": 0.25},
        "rows": {
            "the drawn box": {**row, "whole": 0.2, "floor": "0.5", "recall_of_part_alone": 0.45}
        },
    }  # fmt: skip
    scores = {
        f"{stage}/top{top}{end}": 0.25
        for stage in ("model 0", "model 1", "united", "ranked again")
        for top in (1, 5)
        for end in ("", "_low", "_high")
    }
    scores |= {"pictures": 7, "names": 3, "database_pictures": 9, "among the candidates": 0.9}
    scores |= {"none said of known": 0.1, "none said of unknown": 0.8, "calibration error": 0.05}
    said = composed.body(
        {
            "shop": {"queries": {"gallery": 8, "tasks": tasks}, "crops": crops},
            "names": {"x": scores},
        }
    )
    for words in (
        "50.0 (40.0–60.0)",
        "image − 빨간색 + 파란색",
        "20.0 %",
        "45.0",
        "25.0",
        "0.050",
        "30.0 % at floor 0.5",
    ):
        assert words in said
