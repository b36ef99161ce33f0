"""The order of a document's images against the formula taken literally, and what must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.search.thumbnail_ranking import ThumbnailConfig, rank


def drawn(seed: int, count: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = rng.normal(size=3)
    return {
        "similarity_N": vectors @ query / np.linalg.norm(query),
        "vectors_ND": vectors,
        "unsafe_N": rng.uniform(size=count),
        "quality_N": rng.uniform(size=count),
    }


def literally(given: dict[str, Any], config: ThumbnailConfig, most: int) -> list[int]:
    """The formula of the module's docstring, an image at a time."""
    vectors, chosen = given["vectors_ND"], []

    def score(i: int) -> float:
        nearest = max((max(0.0, float(vectors[i] @ vectors[j])) for j in chosen), default=0.0)
        return float(
            given["similarity_N"][i]
            + config.quality * given["quality_N"][i]
            - config.safety * given["unsafe_N"][i]
            - config.diversity * nearest
        )

    left = [
        i
        for i in range(len(vectors))
        if given["unsafe_N"][i] <= config.most_unsafe
        and (config.floor is None or given["similarity_N"][i] >= config.floor)
    ]
    while left and len(chosen) < most:
        best = max(left, key=score)
        chosen.append(best)
        left.remove(best)
    return chosen


CONFIGS = st.builds(
    ThumbnailConfig,
    floor=st.none() | st.floats(-1, 1),
    most_unsafe=st.floats(0, 1),
    quality=st.floats(0, 2),
    safety=st.floats(0, 2),
    diversity=st.floats(0, 5),
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 9), CONFIGS, st.integers(1, 10))
def test_the_order_is_the_formula_taken_literally(
    seed: int, count: int, config: ThumbnailConfig, most: int
) -> None:
    arrays = drawn(seed, count)
    found = rank(**arrays, config=config, most=most)
    assert [place.image for place in found.chosen] == literally(arrays, config, most)
    scores = [place.score for place in found.chosen]
    assert scores == sorted(scores, reverse=True)
    for place in found.chosen:
        assert place.score == pytest.approx(sum(place.parts.values()))
    every = rank(**arrays, config=config)
    numbers = [*(place.image for place in every.chosen), *every.below, *every.unsafe]
    assert sorted(numbers) == list(range(count))  # each image is somewhere, once


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1, 1), st.floats(-1, 1))
def test_a_higher_floor_only_takes_away(seed: int, one: float, other: float) -> None:
    arrays = drawn(seed, 8)
    low, high = (
        {
            place.image
            for place in rank(**arrays, config=ThumbnailConfig(floor=floor, diversity=0)).chosen
        }
        for floor in sorted((one, other))
    )
    assert high <= low


def test_no_picture_is_better_than_a_dangerous_one() -> None:
    vectors = np.eye(3)
    similarity, unsafe = np.asarray([0.9, 0.1, 0.4]), np.asarray([0.51, 0.0, 0.5])
    found = rank(similarity, vectors, unsafe_N=unsafe, config=ThumbnailConfig(floor=0.3))
    assert ([place.image for place in found.chosen], found.below, found.unsafe) == ([2], (1,), (0,))
    none = rank(similarity, vectors, unsafe_N=unsafe, config=ThumbnailConfig(floor=0.5))
    assert none.chosen == () and none.below == (2, 1)


def test_copies_of_the_first_come_last_and_the_first_is_chosen_without_diversity() -> None:
    vectors = np.asarray([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    similarity = np.asarray([0.40, 0.40, 0.35, 0.34])
    found = rank(similarity, vectors, config=ThumbnailConfig(diversity=0.1))
    assert [place.image for place in found.chosen] == [0, 2, 3, 1]
    assert found.chosen[3].parts["diversity"] == pytest.approx(-0.1)
    plain = rank(similarity, vectors, config=ThumbnailConfig(diversity=0))
    assert [place.image for place in plain.chosen] == [0, 1, 2, 3]  # ties in the order given
    assert rank(similarity, vectors, most=1).chosen[0].image == 0


def test_quality_and_safety_decide_between_equals() -> None:
    vectors, similarity = np.eye(2), np.asarray([0.3, 0.3])
    assert rank(similarity, vectors, quality_N=np.asarray([0.1, 0.9])).chosen[0].image == 1
    assert rank(similarity, vectors, unsafe_N=np.asarray([0.4, 0.1])).chosen[0].image == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"similarity_N": np.asarray([0.1, np.nan])}, "similarity goes from -1 to 1"),
        ({"similarity_N": np.asarray([0.1])}, r"shape \(1,\), of 2 images"),
        ({"unsafe_N": np.asarray([0.1, 1.1])}, "unsafe goes from 0 to 1"),
        ({"quality_N": np.asarray([np.inf, 1])}, "quality goes from 0 to 1"),
        ({"vectors_ND": np.zeros(2)}, "vectors have the shape"),
    ],
)
def test_arrays_that_cannot_be_are_said(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rank(**{**drawn(0, 2), **change})


@pytest.mark.parametrize(
    "values", [{"floor": 1.5}, {"floor": float("nan")}, {"most_unsafe": -1}, {"diversity": -0.1}]
)
def test_settings_that_cannot_be_are_said(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        ThumbnailConfig(**values)
    with pytest.raises(ConfigError, match="1 image or more"):
        rank(**drawn(0, 2), most=0)
