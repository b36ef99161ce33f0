"""Pairs of images and texts, and retrieval over a set."""

import dataclasses

import numpy as np
import pytest

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.evaluation.dataset import EvaluationRow, EvaluationSet, read_set
from kmm_jax.evaluation.retrieval import RetrievalEvaluator, pair, retrieval
from tests.evaluation.conftest import BATCH, KEYS, ROWS, SIZE


def read(shards, encoder):
    return read_set(shards, encoder, image_size=SIZE, batch_size=BATCH)


def test_a_text_of_several_images_is_one_query_with_all_of_them_as_positives():
    pairs = pair(["a", "b", "c"], [("빨간 옷", "옷"), ("옷",), ("파란 옷",)])
    assert pairs.texts == ("빨간 옷", "옷", "파란 옷")
    assert [found.tolist() for found in pairs.images_of_text] == [[0], [0, 1], [2]]
    assert [found.tolist() for found in pairs.texts_of_image] == [[0, 1], [1], [2]]


def test_rows_with_the_same_image_are_one_image_with_the_texts_of_both():
    pairs = pair(["a", "b", "a"], [("빨간 옷",), ("파란 옷",), ("붉은 옷",)])
    assert pairs.image_rows.tolist() == [0, 1]
    assert [found.tolist() for found in pairs.texts_of_image] == [[0, 2], [1]]


def test_rows_without_a_text_are_left_out():
    pairs = pair(["a", "b", "c"], [(), ("파란 옷",), ("빨간 옷",)])
    assert pairs.image_rows.tolist() == [1, 2]
    assert [found.tolist() for found in pairs.images_of_text] == [[0], [1]]


def test_a_model_that_sees_colours_finds_every_query_both_ways(shards, encoder):
    table, found = retrieval(encoder, read(shards, encoder), field="query", style="query")
    assert {score.value for score in table.scores} == {1.0}
    texts = 2 * len(KEYS)
    assert table.facts == {
        "text_to_image/queries": texts,
        "text_to_image/gallery": ROWS,
        "image_to_text/queries": ROWS,
        "image_to_text/gallery": texts,
    }
    # 22 images, 2 texts each of 12: each has 2 positives; each text 3 or 4 images of 22.
    assert found["image_to_text"].chance[1] == pytest.approx(2 / 12)
    assert found["text_to_image"].chance[1] == pytest.approx((4 * 4 + 2 * 3) / 6 / 22)
    assert f"{ROWS} images and {texts} distinct query texts" in table.protocol
    assert f"{texts} of them shared by several" in table.protocol


def test_the_style_asked_for_stands_in_front_of_the_texts(shards, encoder):
    rows = read(shards, encoder)
    seen = []
    spy = dataclasses.replace(
        encoder, text=lambda texts, style: (seen.append(style), encoder.text(texts, style))[1]
    )
    retrieval(spy, rows, field="product_name", style="shopping")
    retrieval(spy, rows, field="product_name", style=None)
    assert seen == ["shopping", None]


def test_the_evaluator_yields_figures_with_chance_and_counts(data, eye):
    values = dict(RetrievalEvaluator(data=data).run(eye.functions(), np.float32(1)))
    assert values["retrieval/text_to_image/r1"] == 1.0
    assert values["retrieval/text_to_image/gallery"] == ROWS
    assert 0 < values["retrieval/text_to_image/chance_r1"] < 1
    assert values["retrieval/image_to_text/r10"] == 1.0


def test_a_model_that_sees_nothing_finds_nothing(data, eye):
    blind = {**eye.functions(), "encode_image": lambda _, batch: np.ones((len(batch["image"]), 6))}
    values = dict(RetrievalEvaluator(data=data).run(blind, np.float32(1)))
    assert values["retrieval/text_to_image/r5"] == 0.0


def test_a_field_without_texts_is_refused_with_those_there_are(shards, encoder):
    rows = read(shards, encoder)
    with pytest.raises(DataError, match=r"'title'.*caption \(22 rows\)"):
        retrieval(encoder, rows, field="title", style="prompt")
    with pytest.raises(ConfigError, match="did you mean 'query'"):
        retrieval(encoder, rows, field="querry", style="query")


def test_texts_are_compared_in_their_normal_form():
    decomposed, composed = "\u1112\u1161\u11ab 옷", "한 옷"
    from kmm_jax.evaluation.dataset import _row

    rows = [
        _row({"image_hash": key, "product_name": text})
        for key, text in (("a", decomposed), ("b", composed))
    ]
    pairs = pair(
        [row.key for row in rows],
        EvaluationSet(name="", rows=tuple(rows), vectors_NE=np.zeros((2, 1))).texts("product_name"),
    )
    assert pairs.texts == (composed,)
    assert isinstance(rows[0], EvaluationRow)
