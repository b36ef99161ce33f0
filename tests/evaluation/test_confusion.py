"""The confusion matrix and its picture."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from kmm_jax.evaluation.confusion import confusion, draw_confusion


def test_it_counts_true_class_by_answered_class():
    rng = np.random.default_rng(0)
    truth, answers = rng.integers(0, 5, 100), rng.integers(0, 4, 100)
    expected = np.zeros((5, 5), int)
    for true, answer in zip(truth, answers, strict=True):
        expected[true, answer] += 1
    found = confusion(truth, answers, 5)
    assert (found == expected).all()
    assert found.dtype == np.int64


def test_the_picture_has_korean_letters_and_not_boxes(tmp_path):
    matrix = np.diag([5, 0, 3]) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of every glyph its font lacks
        draw_confusion(
            tmp_path / "confusion.png", matrix, ["반소매 티셔츠", "꽃무늬 원피스", "장갑"]
        )
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
    assert os.listdir(tmp_path) == ["confusion.png"]


def test_a_picture_of_many_classes_stays_a_sane_size(tmp_path):
    draw_confusion(tmp_path / "large.png", np.eye(150, dtype=int), [f"종류{i}" for i in range(150)])
    with Image.open(tmp_path / "large.png") as image:
        assert max(image.size) < 6000


def test_names_must_fit_the_matrix(tmp_path):
    with pytest.raises(ValueError, match="2 names"):
        draw_confusion(tmp_path / "x.png", np.eye(3), ["하나", "둘"])
    assert os.listdir(tmp_path) == []
