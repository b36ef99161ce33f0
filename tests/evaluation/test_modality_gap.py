"""The modality gap of sets made to have a known one."""

import dataclasses

import numpy as np
import pytest

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.evaluation.dataset import read_set
from kmm_jax.evaluation.modality_gap import ModalityGapEvaluator, gap_table, modality_gap
from kmm_jax.training import dump
from tests.evaluation.conftest import BATCH, KEYS, NAMES, ROWS, SIZE


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cloud(seed, rows=400, size=12, centre=0.0):
    return unit(np.random.default_rng(seed).standard_normal((rows, size)) + centre)


def test_identical_sets_have_no_gap():
    vectors = cloud(0)
    gap = modality_gap(vectors, vectors.copy())
    assert gap.distance == 0
    assert gap.pair_cosine == pytest.approx(1)
    assert gap.separability == 0.5
    assert gap.pairs == 400


def test_antipodal_clusters_are_as_far_apart_as_can_be():
    images = np.tile(np.eye(12)[0], (50, 1))
    gap = modality_gap(images, -images)
    assert gap.distance == pytest.approx(2)
    assert gap.pair_cosine == gap.random_cosine == pytest.approx(-1)
    assert gap.separability == 1.0


def test_two_cones_at_a_known_angle():
    """Points on circles around two axes: the centroids lie on the axes, at the circles' height."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    zero = np.zeros(40)
    images = np.stack([np.full(40, 0.8), zero, *(0.6 * circle)], axis=1)
    texts = np.stack([zero, np.full(40, 0.8), *(0.6 * circle)], axis=1)
    gap = modality_gap(images, texts)
    assert gap.distance == pytest.approx(0.8 * np.sqrt(2))
    assert gap.pair_cosine == pytest.approx(0.36)
    # All pairs together have no cosine left but for the true ones.
    assert gap.random_cosine == pytest.approx(-0.36 / 39)


def test_turning_the_space_changes_no_measure():
    images, texts = cloud(1, centre=0.2), cloud(2, centre=-0.1)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((12, 12)))[0]
    one, other = modality_gap(images, texts), modality_gap(images @ turn, texts @ turn)
    assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other))


def test_random_cosine_equals_a_loop_over_all_other_texts():
    images, texts = cloud(4, rows=30), cloud(5, rows=30)
    number = np.random.default_rng(6).integers(0, 7, 30)
    texts = texts[number]  # rows of a number share their text
    for given in (None, number):
        cosines = [
            float(images[i] @ texts[j])
            for i in range(30)
            for j in range(30)
            if (i != j if given is None else given[i] != given[j])
        ]
        found = modality_gap(images, texts, given)
        assert found.random_cosine == pytest.approx(np.mean(cosines))
    assert found.pair_cosine == pytest.approx((images * texts).sum(axis=1).mean())


def test_equal_distributions_cannot_be_told_apart_and_shifted_ones_can():
    assert modality_gap(cloud(7, 2000), cloud(8, 2000)).separability == pytest.approx(0.5, abs=0.04)
    assert modality_gap(cloud(7, centre=1), cloud(8, centre=-1)).separability == 1.0


def test_separability_is_of_rows_and_texts_never_seen():
    """With as many dimensions as rows, a classifier would be right on what it was fitted to."""
    images, texts = cloud(9, rows=200, size=400), cloud(10, rows=200, size=400)
    assert modality_gap(images, texts).separability == pytest.approx(0.5, abs=0.1)
    # Eight texts, each known by heart from one row, could be told from images in the other fold.
    number = np.arange(400) % 8
    shared = cloud(11, rows=8)[number]
    assert modality_gap(cloud(12), shared, number).separability < 0.75


def test_a_collapsed_model_gives_numbers():
    point = np.tile(np.eye(4)[0], (10, 1))
    gap = modality_gap(point, point)
    assert (gap.distance, gap.separability) == (0, 0.5)


def test_what_is_no_set_of_pairs_is_refused():
    vectors = cloud(13, rows=4)
    with pytest.raises(ValueError, match="N pairs of vectors"):
        modality_gap(vectors, vectors[:3])
    with pytest.raises(ValueError, match="4 pairs, but 3"):
        modality_gap(vectors, vectors, np.arange(3))
    with pytest.raises(DataError, match="at least two different texts"):
        modality_gap(vectors, vectors, np.zeros(4, int))
    with pytest.raises(DataError, match="at least two different texts"):
        modality_gap(vectors[:1], vectors[:1])


def test_the_table_takes_the_first_text_of_each_image(shards, encoder):
    rows = read_set(shards, encoder, image_size=SIZE, batch_size=BATCH)
    seen = []
    spy = dataclasses.replace(
        encoder, text=lambda texts, style: (seen.extend(texts), encoder.text(texts, style))[1]
    )
    table, gap = gap_table(spy, rows, field="query", style="query")
    assert sorted(seen) == sorted(f"{name} 옷" for name in NAMES)
    assert gap.pair_cosine == pytest.approx(1)
    assert gap.random_cosine == pytest.approx(0)
    assert table.facts == {"pairs": ROWS, "texts": len(KEYS)}
    values = {score.name: score.value for score in table.scores}
    assert values["text_to_image/r1"] == values["image_to_text/r5"] == 1.0
    assert "without it a gap means nothing" in table.protocol


def test_the_evaluator_yields_the_gap_beside_the_recall_of_the_same_pairs(data, eye):
    values = dict(ModalityGapEvaluator(data=data).run(eye.functions(), np.float32(1)))
    assert values["modality_gap/distance"] == pytest.approx(0, abs=1e-6)
    assert values["modality_gap/chance_separability"] == 0.5
    for way in ("text_to_image", "image_to_text"):
        assert values[f"modality_gap/{way}/r1"] == 1.0
        assert 0 < values[f"modality_gap/{way}/chance_r1"] < values[f"modality_gap/{way}/chance_r5"]


def test_a_model_that_sees_nothing_has_no_gap_of_any_meaning(data, eye):
    point = np.eye(6, dtype=np.float32)[0]
    blind = {
        name: lambda _, batch: np.tile(point, (len(next(iter(batch.values()))), 1))
        for name in ("encode_image", "encode_text")
    }
    values = dict(ModalityGapEvaluator(data=data).run(blind, np.float32(1)))
    assert values["modality_gap/distance"] == 0
    assert values["modality_gap/pair_cosine"] == 1
    assert values["modality_gap/text_to_image/r5"] == 0


def test_the_evaluator_is_configuration_that_is_checked_before_training(data, tmp_path):
    evaluator = ModalityGapEvaluator(data=data, every="2 epochs")
    assert dump.from_json(dump.to_json(evaluator)) == evaluator
    evaluator.check()
    with pytest.raises(ConfigError, match="did you mean 'query'"):
        dataclasses.replace(evaluator, field="queri").check()
    one = dataclasses.replace(evaluator, data=dataclasses.replace(data, limit=1))
    with pytest.raises(DataError, match="at least two different query texts, found 1"):
        one.check()
