"""The watermark score: the shipped detector, LAION's weights, and the training of ours."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from kmm_jax.corpus.scoring.protocol import Sample, Score, Scorer
from kmm_jax.corpus.scoring.watermark import (
    COLUMN,
    SHIPPED,
    SIDE,
    Watermark,
    WatermarkScorer,
    digest,
    squashed,
)
from kmm_jax.data.shop import ShopConfig, render_item
from kmm_jax.errors import ConfigError, UserError
from kmm_jax.models.keys import abstract_module
from kmm_jax.models.watermark import CELL, MarkDetector
from tools.watermark import marks, measure, samples, train


@pytest.fixture(scope="module")
def scorer() -> WatermarkScorer:
    return Watermark(batch=16).load()


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    config = ShopConfig(items=16, seed=31, image_size=SIDE, split="test")
    return [np.asarray(render_item(config, index).image) for index in range(16)]


def _sample(pixels: np.ndarray) -> Sample:
    return Sample("", pixels, (), ())


def _marked(pixels: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return marks.overlay(pixels, rng, marks.HELD_OUT, "tiled", 0.6)[0]


def _scores(scorer: Scorer, pictures: list[np.ndarray]) -> list[float]:
    return [row[COLUMN] for row in scorer.score([_sample(each) for each in pictures])]


def test_it_is_a_score_that_json_can_hold() -> None:
    score: Score = Watermark()
    assert score.name == "watermark" and not score.of_texts and score.side == SIDE
    assert score.columns() == {COLUMN: pa.float64()}
    assert json.loads(json.dumps(score.identity())) == score.identity()
    assert score.identity() == Watermark(most=0.9).identity(), "thresholds are left out"
    assert score.thresholds() == {COLUMN: ("most", score.most)}


def test_above_the_line_is_rejected() -> None:
    score = Watermark(most=0.6)
    assert score.judge({COLUMN: 0.61, "query": []}) == ({COLUMN: 0.61, "query": []}, "watermark")
    assert score.judge({COLUMN: 0.6})[1] is None
    assert score.judge({COLUMN: None})[1] is None


def test_a_strong_mark_scores_above_none(scorer: WatermarkScorer, drawn: list[np.ndarray]) -> None:
    clean = _scores(scorer, drawn)
    marked = _scores(scorer, [_marked(each, seed) for seed, each in enumerate(drawn)])
    assert sum(b > a for a, b in zip(clean, marked, strict=True)) >= 15
    assert all(0 <= each <= 1 and each == round(each, 5) for each in clean + marked)


def test_weights_are_those_that_were_measured(repository: Path) -> None:
    measured = json.loads((repository / "docs/results/watermark.json").read_text("utf-8"))
    assert digest(SHIPPED) == measured["weights"]["sha256"]
    assert SHIPPED.stat().st_size < 5_000_000
    assert measured["weights"]["parameters"] <= 1_200_000
    assert measured["line"]["used"] == Watermark().most


def test_scores_do_not_depend_on_the_batch_or_the_thread(
    scorer: WatermarkScorer, drawn: list[np.ndarray]
) -> None:
    pictures = drawn[:5]
    alone = [_scores(scorer, [each])[0] for each in pictures]
    together: dict[int, list[float]] = {}
    threads = [
        threading.Thread(target=lambda n=n: together.update({n: _scores(scorer, pictures)}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each == together[0] for each in together.values()) and len(together) == 4
    np.testing.assert_allclose(together[0], alone, atol=2e-5)


def test_no_pictures_and_tiny_ones(scorer: WatermarkScorer) -> None:
    assert scorer.score([]) == []
    tiny = [np.zeros((1, 1, 3), np.uint8), np.full((2, 900, 3), 255, np.uint8)]
    assert all(0 <= each <= 1 for each in _scores(scorer, tiny))


def test_batches_are_padded_to_powers_of_two(drawn: list[np.ndarray]) -> None:
    shapes = []

    def net(pixels: np.ndarray) -> np.ndarray:
        shapes.append(pixels.shape[0])
        return pixels.mean((1, 2, 3)) / 255

    found = WatermarkScorer(net, side=8, batch=4).score([_sample(each) for each in drawn[:7]])
    assert shapes == [4, 4]
    expected = [round(float(squashed(each, 8).mean() / 255), 5) for each in drawn[:7]]
    np.testing.assert_allclose([row[COLUMN] for row in found], expected, atol=1e-5)


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Watermark(most=1.5)
    with pytest.raises(ConfigError, match="give 1 or more"):
        Watermark(batch=0)
    with pytest.raises(ConfigError, match=r"only \.safetensors is read.*save_file"):
        Watermark(weights="watermark_model_v1.pt").identity()
    with pytest.raises(ConfigError, match="no such file"):
        Watermark(weights=str(tmp_path / "none.safetensors")).load()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x00" * 40)
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        Watermark(weights=str(broken)).load()
    with pytest.raises(ConfigError, match="does not hold the weights of LAION"):
        Watermark(weights=str(SHIPPED)).load()


def test_laion_weights_are_scored_as_its_example_does(
    tmp_path: Path, drawn: list[np.ndarray]
) -> None:
    """Class 0 of a net whose last layer is all bias: the softmax of that bias."""
    from kmm_jax.models.efficientnet import EfficientNetB3, timm_names

    names = ("classifier.0", "classifier.3", "classifier.5")
    model = abstract_module(lambda rngs: EfficientNetB3((625, 256, 2), rngs=rngs))
    theirs = timm_names(model, names)
    weights = {}
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        ours = ".".join(map(str, path))
        shape = variable.shape
        if ours.endswith("kernel"):
            shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
        weights[theirs[ours]] = np.zeros(shape, np.float32)
    weights["classifier.5.bias"] = np.array([1.0, -1.0], np.float32)
    weights["bn1.num_batches_tracked"] = np.array(7)
    path = tmp_path / "watermark.safetensors"
    save_file(weights, path)
    score = Watermark(weights=str(path))
    assert score.side == 256 and score.identity()["net"] != Watermark().identity()["net"]
    found = _scores(score.load(), drawn[:1])
    assert found == [round(float(1 / (1 + np.exp(-2.0))), 5)]


def test_marks_change_the_photo_where_they_say(drawn: list[np.ndarray]) -> None:
    for seed, kind in enumerate(marks.KINDS):
        for designs in (marks.TRAIN, marks.HELD_OUT):
            rng = np.random.default_rng(seed)
            pixels, seen = marks.overlay(drawn[seed], rng, designs, kind, 0.6)
            changed = (pixels != drawn[seed]).any(-1)
            assert pixels.shape == drawn[seed].shape and seen.any()
            assert not (seen & ~changed).any()
    assert not set(marks.TRAIN.shapes) & set(marks.HELD_OUT.shapes)
    assert not set(marks.TRAIN.korean_fonts) & set(marks.HELD_OUT.korean_fonts)


def test_examples_are_a_function_of_their_number(drawn: list[np.ndarray]) -> None:
    backgrounds = samples.Backgrounds(photos=drawn, drawn=drawn[:2])
    first, again = (samples.example(backgrounds, 3, 41, 64) for _ in range(2))
    assert np.array_equal(first.pixels_SSC, again.pixels_SSC)
    assert first.pixels_SSC.shape == (64, 64, 3) and first.cells_cc.shape == (64 // CELL,) * 2
    other = samples.example(backgrounds, 3, 42, 64)
    assert not np.array_equal(first.pixels_SSC, other.pixels_SSC)


def test_training_goes_on_as_if_never_interrupted(tmp_path: Path, drawn: list[np.ndarray]) -> None:
    backgrounds = samples.Backgrounds(photos=drawn, drawn=[])
    plan = train.Plan(phases=(train.Phase(32, 2, 3),), save_every=2)
    said: list[str] = []
    whole = train.train(plan, backgrounds, tmp_path / "whole", say=said.append)
    assert said and "step 3/3" in said[-1] and "nan" not in said[-1]
    train.train(plan, backgrounds, tmp_path / "parts", stop_after=2, say=said.append)
    parts = train.train(plan, backgrounds, tmp_path / "parts", say=said.append)
    for one, other in zip(*(jax.tree.leaves(nnx.state(m)) for m in (whole, parts)), strict=True):
        np.testing.assert_array_equal(one, other)
    statistics = nnx.state(whole, nnx.BatchStat)
    assert all((each != 1).any() for each in jax.tree.leaves(statistics)), "they follow the data"
    assert any((each != 0).any() for each in jax.tree.leaves(statistics))
    with pytest.raises(UserError, match="another plan"):
        train.train(train.Plan(), backgrounds, tmp_path / "parts", say=said.append)
    file = tmp_path / "weights.safetensors"
    assert train.save(file, whole) == digest(file)
    assert load_file(file).keys() == load_file(SHIPPED).keys()


def test_phases_count_their_examples() -> None:
    plan = train.Plan(phases=(train.Phase(32, 4, 2), train.Phase(48, 2, 3)))
    assert [plan.phase(step).side for step in range(plan.steps)] == [32, 32, 48, 48, 48]
    assert [plan.first_example(step) for step in range(6)] == [0, 4, 8, 10, 12, 14]


def test_area_and_precision_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    positives, negatives = rng.integers(0, 9, 40) / 9, rng.integers(0, 7, 60) / 9
    pairs = [(a > b) + 0.5 * (a == b) for a in positives for b in negatives]
    assert measure.area(positives, negatives) == pytest.approx(np.mean(pairs))
    precisions = [
        (positives >= each).sum() / ((positives >= each).sum() + (negatives >= each).sum())
        for each in positives
    ]
    assert measure.average_precision(positives, negatives) == pytest.approx(np.mean(precisions))


def test_a_smaller_picture_gets_a_smaller_heat_map() -> None:
    model = abstract_module(lambda rngs: MarkDetector(rngs=rngs))
    pixels = jax.ShapeDtypeStruct((3, 64, 96, 3), np.uint8)
    model.eval()
    score, heat = nnx.eval_shape(lambda m, x: m(x), model, pixels)
    assert score.shape == (3,) and heat.shape == (3, 64 // CELL, 96 // CELL)
