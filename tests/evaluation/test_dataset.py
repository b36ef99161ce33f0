"""Reading a set: in order, once, in one shape, without its bad rows."""

import dataclasses

import numpy as np
import pytest

from kmm_jax.data.shards import ShardWriter
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.evaluation.dataset import read_set
from kmm_jax.evaluation.retrieval import RetrievalEvaluator
from kmm_jax.evaluation.zero_shot import ZeroShotEvaluator
from kmm_jax.training import dump
from kmm_jax.training.overrides import apply
from tests.evaluation.conftest import BATCH, COLOURS, KEYS, ROWS, SIZE, jpeg, record


def read(source, encoder, **options):
    return read_set(source, encoder, **{"image_size": SIZE, "batch_size": BATCH, **options})


def test_rows_vectors_texts_and_labels_stand_side_by_side(shards, encoder, eye):
    rows = read(shards, encoder)
    assert [row.key for row in rows.rows] == [f"image{i:03d}" for i in range(ROWS)]
    assert rows.vectors_NE.argmax(axis=1).tolist() == [i % len(KEYS) for i in range(ROWS)]
    assert rows.labels("color") == [KEYS[i % len(KEYS)] for i in range(ROWS - 1)] + [None]
    assert rows.texts("query")[1] == ("초록색 옷", "초록색 의류")
    assert eye.shapes["image"] == {(BATCH, SIZE, SIZE, 3)}


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_batch_size_changes_nothing(shards, encoder, batch_size):
    one, other = read(shards, encoder), read(shards, encoder, batch_size=batch_size)
    assert one.rows == other.rows
    np.testing.assert_array_equal(one.vectors_NE, other.vectors_NE)


def test_only_the_first_rows_are_read(shards, encoder):
    seen = []
    rows = read(shards, encoder, limit=9, progress=lambda *numbers: seen.append(numbers))
    assert len(rows.rows) == len(rows.vectors_NE) == 9
    assert seen == [(8, 9), (9, 9)]


@pytest.mark.parametrize("option", ["limit", "batch_size"])
def test_no_rows_at_all_are_refused(shards, encoder, option):
    with pytest.raises(ConfigError, match=f"{option} must be at least 1"):
        read(shards, encoder, **{option: 0})


def test_bad_rows_are_left_out_and_counted(tmp_path, encoder):
    with ShardWriter(tmp_path, prefix="test") as writer:
        for i in range(150):
            image = jpeg(COLOURS[KEYS[i % len(KEYS)]][1])
            writer.write(record(i), image[:100] if i == 70 else image)
    rows = read(tmp_path / "test-000.tar", encoder)
    assert rows.bad_rows == 1
    assert len(rows.rows) == len(rows.vectors_NE) == 149
    assert [row.key for row in rows.rows][69:71] == ["image069", "image071"]
    assert rows.vectors_NE[70].argmax() == 71 % len(KEYS)


def test_too_many_bad_rows_stop_the_evaluation(tmp_path, encoder):
    with ShardWriter(tmp_path, prefix="test") as writer:
        for i in range(10):
            writer.write(record(i), b"no picture" if i % 2 else jpeg((0, 0, 0)))
    with pytest.raises(DataError, match="5 of the 10 rows read are bad"):
        read(tmp_path / "test-000.tar", encoder)


def test_a_missing_source_is_said(tmp_path, encoder):
    with pytest.raises(DataError, match="none"):
        read(tmp_path / "none", encoder)


def test_evaluators_are_configuration_that_a_run_can_keep(data):
    evaluators = (
        ZeroShotEvaluator(data=data, classes="shop_types", label="type", styles=("query", None)),
        RetrievalEvaluator(data=data, every="2 epochs", field="product_name", style="shopping"),
    )
    assert dump.from_json(dump.to_json(evaluators)) == evaluators
    assert "0.data.image_size = 16" in dump.dump(evaluators)
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluators[0].label = "color"


def test_an_evaluator_that_could_not_run_is_refused_before_training(data):
    good = ZeroShotEvaluator(data=data, classes="shop_colours", label="color")
    good.check()
    RetrievalEvaluator(data=data, field="query").check()
    wrong = [
        (dataclasses.replace(good, label="colour"), "no record has a label 'colour'"),
        (dataclasses.replace(good, classes="shop_colors"), "shop_colours"),
        (dataclasses.replace(good, classes="cifar10"), "is one of the 10 classes"),
        (RetrievalEvaluator(data=data, field="queri"), "did you mean 'query'"),
        (dataclasses.replace(good, data=dataclasses.replace(data, source="gone.tar")), "gone"),
        (dataclasses.replace(good, data=dataclasses.replace(data, tokenizer="no")), "no"),
    ]
    for evaluator, message in wrong:
        with pytest.raises(UserError, match=message):
            evaluator.check()


def test_dotted_overrides_reach_an_evaluator(data):
    evaluator = ZeroShotEvaluator(data=data, classes="shop_types", label="type")
    changed = apply(evaluator, ["data.limit=10", "classes=cifar10", "styles=prompt,none"])
    assert (changed.data.limit, changed.classes, changed.styles) == (
        10,
        "cifar10",
        ("prompt", None),
    )
