"""Localisation by hand-made heat-maps and by a model that finds colours."""

import dataclasses
import io
import json

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from kmm_jax.cli import main
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.shop.shop import ShopConfig, render_item
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.evaluation.box_targets import targets_of
from kmm_jax.evaluation.encoders import from_functions, from_model
from kmm_jax.evaluation.heat import cells_within, enlarge
from kmm_jax.evaluation.localisation import (
    FLOORS,
    LocalisationEvaluator,
    localisation,
    score_boxes,
)
from kmm_jax.inference import load
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.models.keys import abstract_module
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training import dump
from kmm_jax.training.evaluators import evaluation_functions
from kmm_jax.training.sharding import MeshConfig, make_mesh
from tests.evaluation.conftest import BATCH, COLOURS, KEYS, LENGTH, NAMES, SIZE
from tests.tiny_models import tiny_coca

GRID = 8
# Boxes in a 24 x 16 picture, whose centre square is its columns 4 to 20; each is whole patches.
LEFT, RIGHT, MIDDLE = (4, 2, 12, 14), (14, 0, 20, 8), (8, 4, 16, 12)


def random_boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4)
    return boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1) > 0.1]


def aligned_boxes(side):
    return np.floor(random_boxes(60) * side) / side + np.asarray([0, 0, 1, 1]) / side


def test_a_perfect_map_gets_everything_and_its_complement_nothing():
    boxes = aligned_boxes(16)
    perfect = cells_within(boxes, 16).astype(np.float32)
    best, worst = score_boxes(perfect, boxes, 16), score_boxes(1 - perfect, boxes, 16)
    for name in ("pointing", "iou", "energy"):
        assert (getattr(best, name) == 1).all()
        assert (getattr(worst, name)[best.flat < 1] == 0).all()
    np.testing.assert_array_equal(best.ceiling, 1)


def test_a_flat_map_gets_what_chance_is_said_to_be():
    boxes = aligned_boxes(16)
    for value, size in ((0.0, 16), (0.3, 48), (-0.7, 48)):
        flat = score_boxes(np.full((len(boxes), 16, 16), value), boxes, size)
        for name in ("pointing", "energy", "flat"):
            np.testing.assert_allclose(getattr(flat, name), flat.area)
        for iou_B in flat.iou.T:
            np.testing.assert_allclose(iou_B, flat.area)


def test_scores_equal_a_loop_over_pixels():
    boxes, size, grid = random_boxes(40), 20, 6
    heat = np.random.default_rng(3).standard_normal((len(boxes), grid, grid)).astype(np.float32)
    scores = score_boxes(heat, boxes, size)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        row, column = np.unravel_index(heat[number].argmax(), (grid, grid))
        x, y = (column + 0.5) / grid, (row + 0.5) / grid
        assert scores.pointing[number] == (x0 <= x < x1 and y0 <= y < y1)
        big = enlarge(heat[number][None], size)[0].astype(np.float64)
        low, high = big.min(), big.max()
        in_box = np.zeros((size, size), bool)
        for i, j in np.ndindex(size, size):
            in_box[i, j] = x0 <= (j + 0.5) / size < x1 and y0 <= (i + 0.5) / size < y1
        for floor, iou in zip(FLOORS, scores.iou[number], strict=True):
            marked = big >= low + floor * (high - low)
            assert iou == pytest.approx((marked & in_box).sum() / (marked | in_box).sum())
        within, total = (big - low)[in_box].sum(), (big - low).sum()
        assert scores.energy[number] == pytest.approx(within / total, abs=1e-5)


def test_baselines_equal_brute_force():
    boxes = random_boxes(40, seed=4)
    scores = score_boxes(np.zeros((len(boxes), 3, 3)), boxes, 32)
    points = np.random.default_rng(5).random((20_000, 2))
    centres = [((c + 0.5) / 3, (r + 0.5) / 3) for r in range(3) for c in range(3)]
    for number, (x0, y0, x1, y1) in enumerate(boxes):

        def holds(x, y, x0=x0, y0=y0, x1=x1, y1=y1):
            return (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)

        assert scores.area[number] == pytest.approx(holds(*points.T).mean(), abs=0.015)
        assert scores.centre[number] == holds(0.5, 0.5)
        assert scores.ceiling[number] == any(holds(x, y) for x, y in centres)


def test_of_equal_maxima_each_counts_its_share():
    heat = np.zeros((1, 4, 4))
    heat[0, 0, 0] = heat[0, 0, 1] = heat[0, 3, 3] = 1
    boxes = np.asarray([(0, 0, 0.5, 0.25)])
    assert score_boxes(heat, boxes, 8).pointing[0] == pytest.approx(2 / 3)


def test_where_the_zero_of_a_map_lies_changes_nothing():
    boxes = random_boxes(20)
    heat = np.random.default_rng(6).random((len(boxes), 5, 5))
    one, other = score_boxes(heat, boxes, 15), score_boxes(heat * 0.25 - 3, boxes, 15)
    for field in dataclasses.fields(one):
        np.testing.assert_allclose(getattr(one, field.name), getattr(other, field.name), atol=1e-5)


def test_maps_without_their_boxes_are_refused():
    with pytest.raises(ValueError, match="3 heat-maps for 2 boxes"):
        score_boxes(np.zeros((3, 4, 4)), np.zeros((2, 4)), 8)


def shop_items(count, **options):
    config = ShopConfig(items=count, seed=0, split="test", image_size=64, **options)
    return [render_item(config, index).record for index in range(count)]


def test_the_shops_garments_are_called_by_its_names():
    record = {
        "image_hash": "a",
        "boxes": [
            {"box": [0, 0, 32, 64], "type": "shirt", "color": "red", "pattern": "check"},
            {"box": [32, 0, 64, 64], "type": "coat", "color": "navy", "pattern": "solid"},
        ],
    }
    full = targets_of(record, (64, 64), phrase="full", image_size=32).found
    kind = targets_of(record, (64, 64), phrase="type", image_size=32).found
    assert [one.phrase for one in full] == ["빨간색 체크무늬 셔츠", "남색 코트"]
    assert [one.phrase for one in kind] == ["셔츠", "코트"]
    assert [one.box for one in full] == [(0, 0, 0.5, 1), (0.5, 0, 1, 1)]
    assert all(one.several and one.blind == 0.5 for one in full)


def test_every_box_of_the_shop_is_looked_for():
    for record in shop_items(12, several_share=0.5):
        found = targets_of(record, (64, 64), phrase="full", image_size=32)
        assert len(found.found) == len(record["boxes"])
        assert found.ambiguous == found.outside == 0
        assert {one.several for one in found.found} == {len(record["boxes"]) > 1}
        for one, box in zip(found.found, record["boxes"], strict=True):
            np.testing.assert_allclose(np.asarray(one.box) * 64, box["box"])


def test_one_who_sees_where_things_are_and_not_what_is_right_as_often_as_they_are_few():
    boxes = [
        {"box": [0, 0, 10, 10], "phrase": "셔츠"},
        {"box": [2, 2, 4, 4], "phrase": "단추"},
        {"box": [10, 0, 20, 10], "phrase": "모자"},
    ]
    found = targets_of({"boxes": boxes}, (20, 20), phrase="full", image_size=20).found
    assert [one.blind for one in found] == pytest.approx([2 / 3, 1 / 3, 1 / 3])


def test_a_name_that_two_boxes_share_finds_neither():
    boxes = [
        {"box": [0, 0, 9, 9], "type": "shirt", "color": "red"},
        {"box": [9, 0, 18, 9], "type": "shirt", "color": "blue"},
        {"box": [18, 0, 27, 9], "phrase": "모자"},
    ]
    found = targets_of({"boxes": boxes}, (27, 27), phrase="full", image_size=27)
    assert [one.phrase for one in found.found] == ["모자"]
    assert (found.ambiguous, found.outside) == (2, 0)


def test_what_the_centre_square_cuts_away_is_left_out():
    boxes = [
        {"box": [0, 0, 14, 10], "phrase": "반 넘게 밖"},
        {"box": [8, 2, 22, 8], "phrase": "반 넘게 안"},
        {"box": [15.1, 5.1, 15.2, 5.2], "phrase": "화소보다 작음"},
    ]
    found = targets_of({"boxes": boxes}, (30, 10), phrase="full", image_size=10)
    assert [(one.phrase, one.box) for one in found.found] == [("반 넘게 안", (0, 0.2, 1, 0.8))]
    assert found.outside == 2


def test_a_word_that_the_shop_has_not_is_refused_with_the_way_out():
    box = {"box": [0, 0, 5, 5], "type": "sofa"}
    with pytest.raises(DataError, match=r"h1: a box has the type 'sofa'.*\"phrase\""):
        targets_of({"image_hash": "h1", "boxes": [box]}, (5, 5), phrase="type", image_size=5)


def jpeg(boxes):
    pixels = np.full((16, 24, 3), 128, np.uint8)
    for key, (x0, y0, x1, y1) in boxes:
        pixels[y0:y1, x0:x1] = COLOURS[key][1]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100, subsampling=0)
    return buffer.getvalue()


def pictures():
    """Eleven pictures: five with one thing in the middle, six with two at the sides."""
    for number in range(11):
        first, second = KEYS[number % 6], KEYS[(number + 1) % 6]
        yield [(first, MIDDLE)] if number < 5 else [(first, LEFT), (second, RIGHT)]


BOXES = 5 + 2 * 6


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxed")
    with ShardWriter(folder, prefix="test") as writer:
        for number, things in enumerate(pictures()):
            boxes = [{"box": list(box), "phrase": f"{COLOURS[k][0]} 옷"} for k, box in things]
            record = {"image_hash": f"boxed{number}", "query": ["옷"], "boxes": boxes}
            writer.write(record, jpeg(things))
    return str(folder / "test-*.tar")


class Finder:
    """Sees how near each patch is to the colour that the text names."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.palette = np.asarray([rgb for _, rgb in COLOURS.values()], np.float32)
        self.shapes, self.texts = set(), []

    def functions(self):
        return {"heat_map": self.heat_map}

    def heat_map(self, params, batch):
        self.shapes.add((batch["image"].shape, batch["text"].shape))
        texts = [self.tokenizer.decode(row) for row in batch["text"]]
        self.texts += texts
        named = [next(i for i, name in enumerate(NAMES) if name in text) for text in texts]
        pixels = batch["image"].astype(np.float32)
        step = SIZE // GRID
        mean_BGG3 = pixels.reshape(len(pixels), GRID, step, GRID, step, 3).mean(axis=(2, 4))
        far_BGG = np.linalg.norm(mean_BGG3 - self.palette[named][:, None, None], axis=3)
        return params * np.exp(-far_BGG / 50)


@pytest.fixture
def finder(tokenizer):
    return Finder(tokenizer)


def encoder_of(finder, params=1.0, functions=None):
    return from_functions(
        functions or finder.functions(),
        np.float32(params),
        finder.tokenizer,
        text_length=LENGTH,
        batch_size=BATCH,
    )


def find(finder, source, **options):
    common = {"image_size": SIZE, "batch_size": BATCH}
    return localisation(encoder_of(finder), source, **common | options)


def test_a_model_that_finds_colours_points_at_every_thing(boxed, finder):
    table, found = find(finder, boxed)
    scores = {score.name: score for score in table.scores}
    assert table.facts == {"boxes": BOXES, "boxes_of_several": 12}
    assert scores["all/pointing"].value == scores["several/pointing"].value == 1
    assert scores["all/errors_gone"].value == scores["several/errors_gone"].value == 1
    assert scores["all/ceiling"].value == 1
    # The middle is in the box of the five lone things and in none of the others.
    assert scores["all/centre"].value == pytest.approx(5 / BOXES)
    assert scores["several/centre"].value == 0
    assert scores["several/blind"].value == 0.5
    assert scores["all/blind"].value == pytest.approx((5 + 12 * 0.5) / BOXES)
    areas = [8 * 8 / 256] * 5 + [8 * 12 / 256, 6 * 8 / 256] * 6
    assert scores["all/pointing"].chance == pytest.approx(np.mean(areas))
    assert scores["all/iou"].chance == pytest.approx(np.mean(areas))
    assert scores["several/energy"].chance == pytest.approx(np.mean(areas[5:]))
    assert scores["all/iou"].value > 0.7 and scores["all/energy"].value > 0.7
    assert [one.phrase for one in found.targets[5:7]] == ["검은색 옷", "빨간색 옷"]
    assert f"{BOXES} boxes in 11 pictures" in table.protocol
    assert "8 x 8 patches" in table.protocol


def test_the_best_floor_is_one_for_the_whole_set_and_said(boxed, finder):
    functions = {"heat_map": lambda *given: finder.heat_map(*given) ** 0.1}
    encoder = encoder_of(finder, functions=functions)
    table, found = localisation(encoder, boxed, image_size=SIZE, batch_size=BATCH)
    means = found.scores.iou.mean(axis=0)
    best = int(means.argmax())
    assert best > 0  # such maps are high everywhere
    values = {score.name: score.value for score in table.scores}
    assert values["all/iou"] == pytest.approx(means.max())
    assert values["several/iou"] == pytest.approx(found.scores.iou[5:, best].mean())
    assert values["iou_floor"] == FLOORS[best]


def test_a_model_that_looks_away_loses_to_the_centre(boxed, finder):
    functions = {"heat_map": lambda params, batch: -finder.heat_map(params, batch)}
    table, _ = localisation(
        encoder_of(finder, functions=functions), boxed, image_size=SIZE, batch_size=BATCH
    )
    scores = {score.name: score.value for score in table.scores}
    assert scores["all/pointing"] == 0
    assert scores["all/errors_gone"] == pytest.approx(-5 / 12)
    assert scores["several/errors_gone"] == 0


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_changes_nothing_and_stays_what_it_is(boxed, finder, batch_size):
    table, _ = find(finder, boxed)
    finder.shapes.clear()
    again, _ = find(finder, boxed, batch_size=batch_size)
    assert again == table
    assert finder.shapes == {((batch_size, SIZE, SIZE, 3), (batch_size, LENGTH))}


def test_only_the_first_rows_are_read(boxed, finder):
    seen = []
    table, _ = find(finder, boxed, limit=6, progress=lambda *numbers: seen.append(numbers))
    assert table.facts == {"boxes": 7, "boxes_of_several": 2}
    assert seen == [(6, 6)]
    alone, _ = find(finder, boxed, limit=5)
    assert not any(score.name.startswith("several") for score in alone.scores)
    assert "errors_gone" not in " ".join(score.name for score in alone.scores)


def test_phrases_stand_in_the_style_asked_for(boxed, finder):
    styles = []
    encoder = encoder_of(finder)
    spy = dataclasses.replace(
        encoder, heat_map=lambda *given: (styles.append(given[2]), encoder.heat_map(*given))[1]
    )
    for style in ("shopping", None):
        table, _ = localisation(spy, boxed, image_size=SIZE, batch_size=64, style=style)
        assert f"in the style {style or 'plain'}" in table.protocol
    assert styles == ["shopping", None]


def test_a_set_without_boxes_is_refused(shards, finder):
    with pytest.raises(DataError, match="no record has a box to look for"):
        find(finder, shards)


def test_heat_that_is_no_number_is_said_and_not_scored(boxed, finder):
    with pytest.raises(DataError, match="8 of 8 heat-maps are NaN"):
        localisation(encoder_of(finder, params=np.nan), boxed, image_size=SIZE, batch_size=BATCH)


def test_a_model_without_heat_maps_is_refused(boxed, encoder):
    with pytest.raises(ConfigError, match="makes no heat-maps"):
        localisation(encoder, boxed, image_size=SIZE, batch_size=BATCH)


def evaluator_of(data, boxed, **options):
    return LocalisationEvaluator(data=dataclasses.replace(data, source=boxed), **options)


def test_the_evaluator_yields_figures_with_chance_and_counts(data, boxed, finder):
    values = dict(evaluator_of(data, boxed).run(finder.functions(), np.float32(1)))
    assert values["localisation/several/pointing"] == 1
    assert values["localisation/all/chance_iou"] == pytest.approx(
        values["localisation/all/chance_pointing"]
    )
    assert values["localisation/boxes"] == BOXES
    limited = dataclasses.replace(data, source=boxed, limit=6)
    few = dict(LocalisationEvaluator(data=limited).run(finder.functions(), np.float32(1)))
    assert few["localisation/boxes"] == 7


def test_the_evaluator_is_silent_where_the_task_makes_no_heat_maps(data, boxed, eye):
    functions = eye.functions()
    assert list(evaluator_of(data, boxed).run(functions, np.float32(1))) == []


def test_the_evaluator_is_configuration_and_checked_before_training(data, boxed, tmp_path):
    evaluator = evaluator_of(data, boxed, phrase="type", style=None, every="2 epochs")
    assert dump.from_json(dump.to_json(evaluator)) == evaluator
    evaluator.check()
    with pytest.raises(DataError, match="no record has a box"):
        LocalisationEvaluator(data=data).check()
    with ShardWriter(tmp_path, prefix="test") as writer:
        writer.write({"image_hash": "bad", "query": ["옷"]}, b"no picture")
        box = {"box": [4, 0, 9, 9], "type": "sofa"}
        writer.write({"image_hash": "h2", "query": ["옷"], "boxes": [box]}, jpeg([]))
    sofas = dataclasses.replace(data, source=str(tmp_path / "test-000.tar"))
    with pytest.raises(DataError, match="h2: a box has the type 'sofa'"):
        LocalisationEvaluator(data=sofas).check()
    gone = dataclasses.replace(data, source="gone.tar")
    with pytest.raises(DataError, match="gone"):
        LocalisationEvaluator(data=gone).check()


@pytest.fixture(scope="module")
def exported(tokenizer):
    config = tiny_coca(image_size=SIZE, vocabulary=tokenizer.vocab_size, length=LENGTH)
    params = nnx.as_pure(nnx.state(registry.build(config, rngs=nnx.Rngs(0)), nnx.Param))
    return native.Exported(
        config=config, params=nnx.to_pure_dict(params), tokenizer=tokenizer, styled=True
    )


@pytest.fixture(scope="module")
def model_folder(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "exported"
    native.save(folder, exported)
    return str(folder)


def test_kmm_evaluate_prints_a_table_for_each_kind_of_phrase(model_folder, boxed, capsys):
    options = ["--tasks", "localisation", "--phrases", "type,full", "--phrase-style", "prompt"]
    assert main(["evaluate", model_folder, boxed, *options, "--batch-size", "8", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [table["title"] for table in printed["tables"]] == [
        "Localisation: type",
        "Localisation: full",
    ]
    for table in printed["tables"]:
        assert table["boxes"] == BOXES
        assert "in the style prompt" in table["protocol"]
        assert 0 <= table["scores"]["several/pointing"]["value"] <= 1


def test_the_loops_functions_and_the_loaded_model_localise_alike(
    model_folder, exported, boxed, tokenizer
):
    graphdef = nnx.graphdef(
        abstract_module(lambda rngs: registry.build(exported.config, rngs=rngs))
    )
    task = CoCaTask(model=exported.config)
    functions = evaluation_functions(task, graphdef, make_mesh(MeshConfig()), lambda: None)
    one = from_functions(
        functions, exported.params, tokenizer, text_length=LENGTH, batch_size=BATCH
    )
    other = from_model(load(model_folder), batch_size=BATCH)
    common = {"image_size": SIZE, "batch_size": BATCH}
    tables = [localisation(encoder, boxed, **common)[0] for encoder in (one, other)]
    for left, right in zip(*(table.scores for table in tables), strict=True):
        assert (left.name, left.chance) == (right.name, right.chance)
        assert left.value == pytest.approx(right.value, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--phrases", "ful"], "did you mean 'full'"),
        (["--phrase-style", "query,prompt"], "takes one style"),
        (["--phrase-style", "querry"], "did you mean 'query'"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(model_folder, boxed, capsys, options, message):
    assert main(["evaluate", model_folder, boxed, "--tasks", "localisation", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_set_without_boxes_exits_with_2(model_folder, shards, capsys):
    options = ["--tasks", "localisation", "--batch-size", "8"]
    assert main(["evaluate", model_folder, shards, *options]) == 2
    assert "no record has a box to look for" in capsys.readouterr().err
