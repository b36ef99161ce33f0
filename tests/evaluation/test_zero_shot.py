"""Zero-shot classification by hand-made vectors and by a model that sees colours."""

import numpy as np
import pytest

from kmm_jax.errors import DataError
from kmm_jax.evaluation.classes import Classes
from kmm_jax.evaluation.dataset import read_set
from kmm_jax.evaluation.zero_shot import (
    ZeroShotEvaluator,
    class_vectors,
    score_vectors,
    truths,
    zero_shot,
)
from tests.evaluation.conftest import BATCH, KEYS, NAMES, ROWS, SIZE

CLASSES = Classes(name="colours", keys=KEYS, names=NAMES, templates=("{name} 옷", "{name} 상품"))
LABELLED = ROWS - 1


def unit(rng, rows, size=12):
    vectors = rng.standard_normal((rows, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def read(shards, encoder):
    return read_set(shards, encoder, image_size=SIZE, batch_size=BATCH)


def test_a_class_is_the_renormalised_mean_of_its_sentences():
    prompts = [["셔츠"], ["바지", "긴바지", "팬츠"], ["모자", "캡"]]
    texts = [text for of_class in prompts for text in of_class]
    vectors = dict(zip(texts, unit(np.random.default_rng(0), len(texts)), strict=True))
    found = class_vectors(lambda asked: np.stack([vectors[text] for text in asked]), prompts)
    for row, of_class in zip(found, prompts, strict=True):
        mean = np.mean([vectors[text] for text in of_class], axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


def test_sentences_that_cancel_out_give_no_nan():
    found = class_vectors(lambda _: np.asarray([[1.0, 0.0], [-1.0, 0.0]]), [["하나", "둘"]])
    assert (found == 0).all()


def test_scores_equal_a_loop_over_images():
    rng = np.random.default_rng(1)
    images, classes, truth = unit(rng, 200), unit(rng, 9), rng.integers(0, 7, 200)
    scores = score_vectors(images, classes, truth)
    top1 = top5 = 0
    by_class: dict[int, list[bool]] = {}
    for image, true in zip(images, truth, strict=True):
        order = sorted(range(9), key=lambda c: -float(image @ classes[c]))
        top1 += order[0] == true
        top5 += true in order[:5]
        by_class.setdefault(int(true), []).append(order[0] == true)
    assert scores.top1 == pytest.approx(top1 / 200)
    assert scores.top5 == pytest.approx(top5 / 200)
    assert scores.macro == pytest.approx(np.mean([np.mean(one) for one in by_class.values()]))
    assert np.trace(scores.matrix_CC) / 200 == pytest.approx(scores.top1)


def test_random_vectors_give_chance():
    rng = np.random.default_rng(2)
    scores = score_vectors(unit(rng, 6000), unit(rng, 8), rng.integers(0, 8, 6000))
    assert scores.top1 == pytest.approx(1 / 8, abs=4 * np.sqrt(7 / 64 / 6000))
    assert scores.top5 == pytest.approx(5 / 8, abs=4 * np.sqrt(15 / 64 / 6000))


def test_macro_tells_a_model_that_always_answers_the_majority():
    classes = np.eye(6, dtype=np.float32)
    truth = np.asarray([0] * 90 + [1] * 10)
    scores = score_vectors(np.tile(classes[:1], (100, 1)), classes, truth)
    assert (scores.top1, scores.macro) == (0.9, 0.5)


def test_five_classes_have_no_top5():
    classes = np.eye(5, dtype=np.float32)
    assert score_vectors(classes, classes, np.arange(5)).top5 is None


def test_a_model_that_sees_colours_is_right_in_every_style(shards, encoder):
    result = zero_shot(
        encoder, read(shards, encoder), CLASSES, label="color", styles=("query", "prompt", None)
    )
    values = {score.name: (score.value, score.chance) for score in result.table.scores}
    for style in ("query", "prompt", "plain"):
        assert values[f"{style}/top1"] == (1.0, pytest.approx(1 / 6))
        assert values[f"{style}/top5"] == (1.0, pytest.approx(5 / 6))
        assert values[f"{style}/macro"] == (1.0, pytest.approx(1 / 6))
    # 21 labelled rows over 6 colours in turn: the first three colours have 4.
    assert values["majority"] == (pytest.approx(4 / LABELLED), pytest.approx(1 / 6))
    assert f"{LABELLED} images" in result.table.protocol
    assert "1 without such a label left out" in result.table.protocol
    assert np.trace(result.styles["query"].matrix_CC) == LABELLED


def test_candidates_may_be_only_the_classes_that_occur(shards, encoder):
    rows = read(shards, encoder)
    more = Classes(
        name="more",
        keys=("pink", *KEYS, "grey"),
        names=("분홍색", *NAMES, "회색"),
        templates=("{name} 옷",),
    )
    every = zero_shot(encoder, rows, more, label="color", styles=("query",))
    present = zero_shot(encoder, rows, more, label="color", styles=("query",), candidates="present")
    assert every.classes.keys == more.keys
    assert present.classes.keys == KEYS
    assert every.table.scores[0].chance == pytest.approx(1 / 8)
    assert present.table.scores[0].chance == pytest.approx(1 / 6)
    assert present.table.scores[0].value == 1.0


def test_labels_that_are_no_classes_are_left_out(shards, encoder):
    rows = read(shards, encoder)
    two = Classes(
        name="two", keys=("blue", "red"), names=("파란색", "빨간색"), templates=("{name}",)
    )
    which, truth = truths(rows, two, "color")
    assert [rows.rows[row].labels["color"] for row in which] == [two.keys[t] for t in truth]
    assert len(which) == 8


def test_a_label_that_is_not_there_is_refused_with_those_there_are(shards, encoder):
    rows = read(shards, encoder)
    with pytest.raises(DataError, match="did you mean 'color'"):
        zero_shot(encoder, rows, CLASSES, label="colour", styles=("query",))
    with pytest.raises(DataError, match=r"no label 'number' is one of the 6 classes"):
        zero_shot(encoder, rows, CLASSES, label="number", styles=("query",))


def test_the_evaluator_yields_each_style_and_never_changes_a_shape(data, eye):
    evaluator = ZeroShotEvaluator(
        data=data, classes=CLASSES, label="color", styles=("query", "shopping")
    )
    values = dict(evaluator.run(eye.functions(), np.float32(1)))
    assert values["zero_shot/query/top1"] == values["zero_shot/shopping/top1"] == 1.0
    assert values["zero_shot/query/chance_top1"] == pytest.approx(1 / 6)
    assert values["zero_shot/images"] == LABELLED
    assert {len(shapes) for shapes in eye.shapes.values()} == {1}


def test_broken_parameters_are_said_and_not_scored(data, eye):
    evaluator = ZeroShotEvaluator(data=data, classes=CLASSES, label="color")
    with pytest.raises(DataError, match="8 of 8 image vectors are NaN"):
        list(evaluator.run(eye.functions(), np.float32("nan")))


def test_a_named_set_is_taken_as_well(data, eye):
    evaluator = ZeroShotEvaluator(data=data, classes="shop_colours", label="color", name="colour")
    values = dict(evaluator.run(eye.functions(), np.float32(1)))
    assert values["colour/classes"] == 14
    assert values["colour/query/top1"] == 1.0
