import numpy as np
import pytest

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.compose import compose, fuse

RED, BAG = np.array([1.0, 0, 0]), np.array([0, 2.0, 0])


def test_one_part_alone_is_brought_to_length_one():
    np.testing.assert_allclose(compose(None, BAG), [0, 1, 0])
    np.testing.assert_allclose(compose(RED, None, 0.1), RED)


def test_the_weight_turns_from_image_to_text():
    np.testing.assert_allclose(compose(RED, BAG), np.array([1, 1, 0]) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(compose(RED, BAG, 0), [0, 1, 0])
    np.testing.assert_allclose(compose(RED, BAG, 1), RED)
    towards = [float(compose(RED, BAG, weight) @ RED) for weight in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert towards == sorted(towards)


def test_rows_are_composed_one_by_one():
    both = compose(np.stack([RED, BAG]), np.stack([BAG, RED]), 0.25)
    np.testing.assert_allclose(both[0], compose(RED, BAG, 0.25))
    np.testing.assert_allclose(both[1], compose(BAG, RED, 0.25))


@pytest.mark.parametrize(
    ("text", "image", "weight", "words"),
    [
        (None, None, 0.5, "text, an image or both"),
        (RED, BAG, 1.5, "from 0 to 1"),
        (RED, -RED, 0.5, "opposite"),
        (RED, np.ones(4), 0.5, "one model"),
    ],
)
def test_what_cannot_be_composed_is_refused(text, image, weight, words):
    with pytest.raises(UserError, match=words):
        compose(text, image, weight)


def test_a_vector_without_direction_is_refused():
    with pytest.raises(DataError, match="all zeros"):
        compose(np.zeros(3), None)
    with pytest.raises(DataError, match="NaN"):
        compose(RED, np.array([0, np.nan, 0]))


def test_fusion_is_the_sum_of_reciprocal_ranks():
    fused = dict(fuse([["셔츠", "치마", "모자"], ["치마", "가방"]], k=60))
    assert fused == {
        "치마": pytest.approx(1 / 62 + 1 / 61),
        "셔츠": pytest.approx(1 / 61),
        "가방": pytest.approx(1 / 62),
        "모자": pytest.approx(1 / 63),
    }


def test_fusion_puts_what_both_found_first_and_counts_repeats_once():
    assert next(each for each, _ in fuse([["a", "b"], ["c", "b"]])) == "b"
    assert fuse([["a", "a", "b"]]) == fuse([["a", "b"]])
    assert fuse([]) == []


def test_a_negative_constant_is_refused():
    with pytest.raises(UserError, match="negative"):
        fuse([["a"]], k=-1)
