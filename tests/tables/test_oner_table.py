"""The smallest rung of OneR's table: every row trained for two steps, measured and written."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import kmm_jax
from kmm_jax import cli
from kmm_jax.data.shop import write_shop
from kmm_jax.errors import ConfigError
from kmm_jax.inference.loading import read
from kmm_jax.interop import native
from kmm_jax.tables import page
from kmm_jax.tables import run as runs
from kmm_jax.tables.config import Table
from kmm_jax.tables.measure import Output, models
from kmm_jax.tables.run import cells, relocated, run
from kmm_jax.tasks.oner_rows import ABLATIONS, TITLES
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training import overrides
from kmm_jax.training.config_file import load_config, load_experiment
from kmm_jax.training.loop import train
from tests.compiler import xla_flags

RUNG = Path(__file__).with_name("tiny_rung.py")


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """A folder with 64 pictures to train on, 32 to test, and a tokenizer."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, train=64, test=32, seed=0, image_size=32)
    Tokenizer.train(["빨간 체크 셔츠", "파란 줄무늬 원피스 사진"], vocab_size=300).save(
        folder / "tokenizer"
    )
    return folder


@pytest.fixture
def tiny_table(shop, monkeypatch):
    monkeypatch.setenv("KMM_TINY_SHOP", str(shop))
    return load_config(RUNG, function="table", kind=Table)


@pytest.fixture(scope="session")
def output(shop, tmp_path_factory):
    """Every row of the table at one seed, by the command, in a process with one device."""
    folder = tmp_path_factory.mktemp("table")
    flags = {"XLA_FLAGS": xla_flags(devices=1), "KMM_TINY_SHOP": str(shop)}
    subprocess.run(
        [sys.executable, "-m", "kmm_jax", "table", RUNG, "--output", folder, "--seeds", "3"],
        env=os.environ | flags,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def measured(tiny_table, output):
    wanted = cells(tiny_table, seeds=(3,))
    return output, wanted, list(runs.already(tiny_table, output / "measured", wanted))


def test_every_row_is_trained_alike_and_measured_by_each_of_its_outputs(measured):
    _, _, found = measured
    assert [cell["row"] for cell in found] == list(TITLES)
    assert {cell["examples"] for cell in found} == {16}
    for cell in found:
        names = list(cell["outputs"])
        two_towers = cell["row"] in ("clip", "slip")
        assert names == (
            ["model"]
            if two_towers
            else ["student projector", "student predictor", "teacher projector"]
        )
        used = page.deployed(cell)
        for task in ("zero_shot/type", "retrieval", "modality_gap", "linear_probe", "localisation"):
            assert task in used, (cell["row"], task)
        assert [point["step"] for point in cell["curve"]] == [1, 2]
        assert {"distance", "pair_cosine", "image_to_text/r5"} <= cell["curve"][0].keys()


def test_what_is_measured_is_not_run_again(tiny_table, measured, monkeypatch):
    output, wanted, found = measured
    assert len(found) == len(TITLES)
    monkeypatch.setattr(runs, "_run_cell", lambda *_: pytest.fail("ran again"))
    assert run(tiny_table, wanted, output, tell=lambda _: None) == found


def test_another_configuration_is_measured_anew(tiny_table, measured):
    output, wanted, _ = measured
    changed = cells(
        tiny_table,
        seeds=(3,),
        rows=("itc",),
        change=lambda one: overrides.apply(one, ["optimizer.learning_rate=0.1"]),
    )
    assert not list(runs.already(tiny_table, output / "measured", changed))
    assert list(runs.already(tiny_table, output / "measured", wanted[:1]))


def test_measures_that_were_changed_are_taken_again(tiny_table, measured):
    output, wanted, _ = measured
    fewer = dataclasses.replace(tiny_table.measures, boxes=None)
    changed = dataclasses.replace(tiny_table, measures=fewer)
    assert not list(runs.already(changed, output / "measured", wanted))


def test_a_run_of_another_length_is_not_taken_for_a_row(tiny_table, output, tmp_path):
    """A run may be made longer; its learning rate would have fallen to 0 on the way."""
    longer = cells(
        tiny_table,
        seeds=(3,),
        rows=("itc",),
        change=lambda one: overrides.apply(one, ["duration=3 steps"]),
    )
    with pytest.raises(ConfigError, match=r"another configuration .*duration"):
        run(tiny_table, longer, output, measured=tmp_path, tell=lambda _: None)


def test_a_setting_of_one_tower_can_be_given_where_only_such_rows_are_wanted():
    table = load_config("oner/shop", function="table", kind=Table)
    found = cells(
        table,
        rows=("itc", "cmc"),
        change=lambda one: overrides.apply(one, ["task.model.head.statistics=joint"]),
    )
    assert {cell.experiment.task.model.head.statistics for cell in found} == {"joint"}


def test_an_interruption_ends_the_table_and_keeps_what_was_measured(
    tiny_table, tmp_path, monkeypatch
):
    wanted = cells(tiny_table, seeds=(0, 1), rows=("itc",))
    monkeypatch.setattr(runs, "_run_cell", lambda *_: False)
    assert run(tiny_table, wanted, tmp_path, tell=lambda _: None) is None


def test_the_page_has_the_slides_columns_and_says_what_was_scored(output):
    text = (output / "table.md").read_text("utf-8")
    heads = "| Method | seeds | zero-shot type | zero-shot color | TR@1 | TR@5 | IR@1 | IR@5 |"
    assert heads in text
    for title in TITLES.values():
        assert f"| {title} |" in text
    assert "one mlp head, predictor, batch norm by pass, projector scored" in text
    assert text.count("batch norm by pass: student projector") == 5 * 4, "in every table"
    assert "two mlp heads, predictor" in text
    assert "<svg" in (output / "gap.svg").read_text("utf-8")
    assert len(json.loads((output / "table.json").read_text("utf-8"))["cells"]) == len(TITLES)


def test_several_seeds_are_a_mean_and_a_range():
    assert page.spread([0.5]) == "50.0"
    assert page.spread([0.5, 0.6, 0.4]) == "50.0 (40.0 to 60.0)"
    assert page.spread([1.0, 2.0], share=False) == "1.500 (1.000 to 2.000)"


def test_the_deployed_output_is_what_load_gives(measured):
    output, _, _ = measured
    folder = output / "runs" / "cmc-seed3"
    config = kmm_jax.load(folder).config
    used = dict(models(folder, config, taught=True))
    first, *_, last = used
    assert first == Output(weights="params", scored="projector")
    image = [np.zeros((16, 16, 3), np.uint8)]
    for output, weights in ((first, None), (last, "ema")):
        found, there = used[output], kmm_jax.load(folder, weights=weights)
        assert found.hash == there.hash
        np.testing.assert_array_equal(found.embed_image(image), there.embed_image(image))
    assert used[first].hash != used[last].hash


def test_an_exported_oner_is_the_same_model(output, tmp_path):
    """Running statistics of its batch norms included."""
    run = output / "runs" / "cmc-seed3"
    native.save(tmp_path / "exported", read(run))
    one, other = kmm_jax.load(run), kmm_jax.load(tmp_path / "exported")
    assert one.hash == other.hash
    np.testing.assert_array_equal(one.embed_text(["빨간 셔츠"]), other.embed_text(["빨간 셔츠"]))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_very_same_numbers(tiny_table, tmp_path):
    """Running statistics of student and teacher and the optimizer's moments included."""
    experiment = overrides.apply(tiny_table.rows["cmc"], ["duration=4 steps"])
    whole = train(experiment, tmp_path / "whole").state
    train(experiment, tmp_path / "run", stop_after=2)
    again = train(experiment, tmp_path / "run").state
    jax.tree.map(np.testing.assert_array_equal, whole, again)


def test_a_pair_is_read_in_one_pass_or_is_the_mean_of_two_vectors(measured):
    output, _, _ = measured
    images = [np.full((16, 16, 3), shade, np.uint8) for shade in (0, 200, 90)]
    texts = ["빨간 셔츠", "파란 원피스", "셔츠"]
    for row in ("clip", "two_heads", "cmc"):
        model = kmm_jax.load(output / "runs" / f"{row}-seed3")
        both = model.embed_pair(images, texts)
        np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
        mean = model.embed_image(images) + model.embed_text(texts)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        assert np.allclose(both, mean, atol=1e-5) == (row != "cmc")
        heat = model.heat_map(images, texts)
        assert heat.shape == (3, 2, 2) and np.isfinite(heat).all()


def test_rows_of_equal_operations_see_as_much_more_data():
    table = load_config("oner/shop", function="table", kind=Table)
    found = {
        cell.row: cell.experiment
        for cell in cells(table, rows=("cmc",), equal_flops=("clip", "two_heads"))
    }
    steps = {row: int(one.duration.split()[0]) for row, one in found.items()}
    flops = {row: steps[row] * one.task.flops_per_example() for row, one in found.items()}
    assert steps["clip@flops"] > steps["two_heads@flops"] > steps["cmc"] == 300
    for row in ("clip@flops", "two_heads@flops"):
        assert flops[row] == pytest.approx(flops["cmc"], rel=0.01)


def test_a_row_can_be_trained_by_itself():
    assert load_experiment("oner/shop:itc").task.cmc == 0
    assert load_experiment("oner/shop:itc_joint", ["seed=4"]).seed == 4
    with pytest.raises(ConfigError, match=r"no row 'it'.*itc"):
        load_experiment("oner/shop:it")
    with pytest.raises(ConfigError, match=r"defines no function table"):
        load_experiment("coca/shop:itc")


def test_every_ablation_changes_the_naive_row_or_its_remedy_in_one_thing():
    table = load_config("oner/shop", function="table", kind=Table)
    assert set(table.ablations) == set(ABLATIONS)
    for name, experiment in table.ablations.items():
        row = max((row for row in table.rows if name.startswith(row)), key=len)
        assert experiment != table.rows[row], name


@pytest.mark.parametrize("name", ["oner/shop", "oner/products", "oner/cc3m"])
def test_each_rung_has_the_slides_rows(name, capsys):
    assert cli.main(["table", name, "--dry-run", "--ablations", "--equal-flops"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{row}-seed0" in printed for row in (*TITLES, *ABLATIONS, "clip@flops"))


def test_wrong_options_are_said(capsys, tmp_path):
    for words, message in (
        (["table", "oner", "--rows", "icc"], "no row 'icc'"),
        (["table", "oner", "--seeds", "a"], "--seeds takes different whole numbers"),
        (["table", "coca/shop"], "defines no function table()"),
        (["table", "oner/cc3m", "--output", str(tmp_path)], "data are not there: data/cc3m"),
    ):
        assert cli.main(words) == 2
        assert message in capsys.readouterr().err


def test_paths_move_and_nothing_else():
    before = {"a": ("data/shop/x", "data/shopping"), "b": Path("data/shop/x"), "c": 3}
    assert relocated(before, "data/shop", "/there") == {
        "a": ("/there/x", "data/shopping"),
        "b": Path("data/shop/x"),
        "c": 3,
    }
