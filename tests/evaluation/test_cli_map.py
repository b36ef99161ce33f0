"""`kmm map` with a real, untrained model over real shards."""

import json
import os

import numpy as np
import pytest

from kmm_jax.cli import main
from kmm_jax.evaluation import map_panels
from kmm_jax.evaluation.map_panels import joint_vectors, mean_vectors, panel_of
from kmm_jax.inference import load
from kmm_jax.inference.model import Model
from tests.evaluation.conftest import KEYS, ROWS, SIZE

FEW = ["--batch-size", "8"]


def read(folder):
    return json.loads((folder / "map.json").read_text("utf-8"))


def test_steps_of_a_run_are_panels_side_by_side(run_folder, shards, tmp_path, capsys):
    output = tmp_path / "map"
    options = ["--steps", "4,30", "--label", "color", "--output", str(output), *FEW]
    assert main(["map", run_folder, shards, *options]) == 0
    written = [str(output / f"map.{end}") for end in ("png", "svg", "json")]
    assert capsys.readouterr().out.split() == written
    assert sorted(os.listdir(output)) == ["map.json", "map.png", "map.svg"]
    first, second = read(output)["panels"]
    assert (first["title"], second["title"]) == ("step 4", "step 30")
    assert first["keys"] == second["keys"] == [f"image{i:03d}" for i in range(ROWS)]
    assert first["labels"] == [KEYS[i % len(KEYS)] for i in range(ROWS - 1)] + [None]
    assert {len(places) for places in first["groups"].values()} == {ROWS}
    assert set(first["groups"]) == {"image", "text", "image+text"}
    assert first["measures"] != second["measures"]


def test_several_models_are_panels_named_after_them(run_folder, model_folder, shards, tmp_path):
    options = ["--output", str(tmp_path / "map"), "--limit", "10", *FEW]
    assert main(["map", run_folder, model_folder, shards, *options]) == 0
    panels = read(tmp_path / "map")["panels"]
    assert [panel["title"] for panel in panels] == ["run, step 30", "exported"]
    assert len(panels[0]["keys"]) == 10
    options += ["--titles", "하나", "--seed", "3", "--perplexity", "5", "--style", "plain"]
    assert main(["map", model_folder, shards, *options]) == 0
    made = read(tmp_path / "map")
    assert [panel["title"] for panel in made["panels"]] == ["하나"]
    assert (made["settings"]["seed"], made["settings"]["perplexity"]) == (3, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "4,x"], "--steps takes numbers, each once, such as 40,300; got 4,x"),
        (["--steps", "4,4"], "each once"),
        (["--steps", "4,7"], "no checkpoint of step 7"),
        (["--titles", "a,b"], "--titles names 2 panels, but there are 1"),
        (["--field", "queri"], "did you mean 'query'"),
        (["--field", "title"], "no record has a text in 'title'"),
        (["--style", "querry"], "did you mean 'query'"),
        (["--label", "colour"], "did you mean 'color'"),
        (["--limit", "0"], "limit must be at least 1"),
        (["--limit", "1"], "at least two different texts"),
        (["--perplexity", "0.5"], "perplexity must be at least 1"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    run_folder, shards, tmp_path, capsys, options, message
):
    code = main(["map", run_folder, shards, "--output", str(tmp_path / "map"), *FEW, *options])
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "map").exists()


def test_what_is_not_there_or_in_the_way_exits_with_2(
    run_folder, model_folder, shards, tmp_path, capsys
):
    output = ["--output", str(tmp_path / "map")]
    assert main(["map", str(tmp_path / "none"), shards, *output]) == 2
    assert main(["map", run_folder, str(tmp_path / "none"), *output]) == 2
    assert main(["map", run_folder, shards, "--output", __file__]) == 2
    assert "must be a folder" in capsys.readouterr().err
    assert main(["map", run_folder, model_folder, shards, "--steps", "4", *output]) == 2
    assert "--steps are of one run, got 2 models" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["map", shards, *output])
    assert caught.value.code == 2
    assert "SOURCE" in capsys.readouterr().err


def test_both_together_are_halfway_between():
    rng = np.random.default_rng(0)
    sides = rng.standard_normal((2, 5, 8))
    images, texts = sides / np.linalg.norm(sides, axis=-1, keepdims=True)
    both = mean_vectors(images, texts)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1)
    np.testing.assert_allclose((both * images).sum(axis=1), (both * texts).sum(axis=1))
    assert np.isfinite(mean_vectors(images, -images)).all()


def test_a_model_that_reads_both_in_one_pass_is_asked_for_each_pair(
    model_folder, shards, monkeypatch
):
    asked = []

    def embed_pair(self, images, texts, style):
        asked.extend(texts)
        assert {image.shape for image in images} == {(SIZE, SIZE, 3)}
        assert style == "query"
        rows = np.asarray([image.mean() for image in images], np.float32)
        return np.stack([rows, np.ones_like(rows)], axis=1)

    monkeypatch.setattr(Model, "embed_pair", embed_pair, raising=False)
    options = {"title": "", "field": "query", "style": "query", "batch_size": 8}
    monkeypatch.setattr(map_panels, "_JOINT", ())
    apart = panel_of(load(model_folder), shards, **options)
    assert not asked
    monkeypatch.setattr(map_panels, "_JOINT", ("coca",))
    with pytest.raises(Exception, match="with one E"):  # ours are of two dimensions
        panel_of(load(model_folder), shards, **options)
    assert asked == [
        "빨간색 옷",
        "초록색 옷",
        "파란색 옷",
        "노란색 옷",
        "흰색 옷",
        "검은색 옷",
    ] * 3 + [
        "빨간색 옷",
        "초록색 옷",
        "파란색 옷",
        "노란색 옷",
    ]
    assert apart.groups["image+text"].shape == apart.groups["image"].shape


def test_rows_without_a_text_are_no_pair(shards):
    texts = [None if i % 3 else f"글 {i}" for i in range(12)]
    seen = []

    def embed_pair(images, of_batch, style):
        seen.append(of_batch)
        return np.ones((len(images), 2), np.float32)

    made = joint_vectors(
        embed_pair, shards, texts, style=None, image_size=SIZE, limit=12, batch_size=2
    )
    assert seen == [["글 0"], ["글 3"], ["글 6"], ["글 9"]]
    assert made.shape == (4, 2)
