"""`kmm evaluate` with a real, untrained model over real shards."""

import dataclasses
import json
import os
import sys

import numpy as np
import pytest
from flax import nnx

from kmm_jax.cli import main
from kmm_jax.data.shards import ShardWriter
from kmm_jax.evaluation.encoders import from_functions, from_model
from kmm_jax.evaluation.evaluate import Plan, evaluate
from kmm_jax.inference import load
from kmm_jax.inference.model import Model
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.models.keys import abstract_module
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.evaluators import evaluation_functions
from kmm_jax.training.sharding import MeshConfig, make_mesh
from tests.evaluation.conftest import LENGTH, ROWS, SIZE, jpeg, record

ZERO_SHOT = ["--classes", "shop_colours", "--label", "color"]


def test_it_prints_json_of_every_task_and_writes_the_report(model_folder, shards, tmp_path, capsys):
    output = tmp_path / "scores"
    options = ["--tasks", "zero_shot,retrieval,captions", "--styles", "query,prompt"]
    options += ["--batch-size", "8", "--json", "--output", str(output)]
    code = main(["evaluate", model_folder, shards, *ZERO_SHOT, *options])
    printed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [table["task"] for table in printed["tables"]] == ["zero_shot", "retrieval", "captions"]
    zero_shot, retrieval, captions = printed["tables"]
    assert set(zero_shot["scores"]) == {
        f"{style}/{name}" for style in ("query", "prompt") for name in ("top1", "top5", "macro")
    } | {"majority"}
    assert zero_shot["classes"] == 14
    assert retrieval["text_to_image/gallery"] == ROWS
    assert captions["scores"]["prompt/mentions_color"]["chance"] is not None
    assert printed["about"]["rows"] == ROWS
    assert printed["about"]["model_hash"] == load(model_folder).hash
    assert sorted(os.listdir(output)) == [
        "confusion-color-prompt.png",
        "confusion-color-query.png",
        "evaluation.json",
        "evaluation.md",
    ]
    assert json.loads((output / "evaluation.json").read_text("utf-8")) == printed


def test_it_prints_markdown_of_retrieval_alone_where_no_classes_are_named(
    model_folder, shards, capsys
):
    options = ["--fields", "query,product_name", "--batch-size", "8"]
    code = main(["evaluate", model_folder, shards, *options])
    printed = capsys.readouterr().out
    assert code == 0
    assert "## Image-text retrieval: query" in printed
    assert "distinct product_name texts" in printed
    assert "in the style shopping" in printed
    assert "Zero-shot" not in printed


@pytest.mark.parametrize(
    ("options", "method", "said"),
    [
        ([], "greedy", "greedy search"),
        (["--caption-method", "beam"], "beam", "beam search"),
        (["--caption-method", "nucleus"], "nucleus", "nucleus sampling"),
    ],
)
def test_captions_are_decoded_as_asked_and_the_protocol_says_how(
    model_folder, shards, monkeypatch, capsys, options, method, said
):
    asked = []
    caption = Model.caption

    def spy(self, images, style, **more):
        asked.append(more["method"])
        return caption(self, images, style, **more)

    monkeypatch.setattr(Model, "caption", spy)
    options = ["--tasks", "captions", "--limit", "8", "--batch-size", "8", "--json", *options]
    assert main(["evaluate", model_folder, shards, *options]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert asked == [method]
    assert table["protocol"].startswith(f"Captions decoded by {said}: 8 images of ")


def test_captions_are_cut_as_asked_and_another_way_is_refused(
    model_folder, shards, capsys, monkeypatch
):
    options = ["--tasks", "captions", "--limit", "8", "--batch-size", "8", "--json"]
    monkeypatch.setenv("PATH", "")  # no Java, whose programs take seconds
    assert main(["evaluate", model_folder, shards, *options, "--tokenizer", "english"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert "tokenizer english" in table["protocol"] and "needs Java" in table["protocol"]
    assert {"prompt/bleu1", "prompt/rouge_l"} < table["scores"].keys()
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    assert main(["evaluate", model_folder, shards, *options, "--tokenizer", "morphemes"]) == 2
    assert "pip install 'kmm-jax[korean]'" in capsys.readouterr().err


def test_a_plan_captions_greedily_unless_it_says_otherwise():
    assert Plan().caption_method == "greedy"


def test_the_step_of_a_run_is_reported(tokenizer, model_folder, shards, tmp_path):
    exported = native.load(model_folder)
    native.save(tmp_path / "at_5", dataclasses.replace(exported, step=5))
    plan = Plan(retrieval=(("query", "query"),))
    found = evaluate(load(tmp_path / "at_5"), shards, plan, limit=8, batch_size=8)
    assert found.results.about["step"] == 5


def test_the_classes_of_other_rows_are_learned_and_need_no_class_set(
    model_folder, shards, train_shards, tmp_path, capsys
):
    options = ["--tasks", "linear_probe,knn", "--label", "color", "--train-source", train_shards]
    options += ["--train-limit", "90", "--batch-size", "8", "--json", "--output", str(tmp_path)]
    assert main(["evaluate", model_folder, shards, *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [table["task"] for table in printed["tables"]] == ["linear_probe", "knn"]
    for table in printed["tables"]:
        assert (table["train_images"], table["images"], table["classes"]) == (90, ROWS - 1, 6)
        assert table["scores"]["top1"]["chance"] == pytest.approx(1 / 6)
        # Even vectors of random parameters tell plain colours apart.
        assert table["scores"]["top1"]["value"] > 0.6
    assert printed["about"]["train_rows"] == 90
    assert {"confusion-color-knn.png", "confusion-color-linear_probe.png"} < set(
        os.listdir(tmp_path)
    )
    markdown = (tmp_path / "evaluation.md").read_text("utf-8")
    assert "## Linear probe: color" in markdown
    assert "| majority | " in markdown


def test_class_sets_and_labels_to_learn_stand_side_by_side(
    model_folder, shards, train_shards, capsys
):
    options = ["--tasks", "zero_shot,knn", "--label", "number", "--train-source", train_shards]
    options += ["--styles", "query", "--train-limit", "30", "--batch-size", "8", "--json"]
    assert main(["evaluate", model_folder, shards, *ZERO_SHOT, *options]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert [table["title"].rpartition(": ")[2] for table in tables] == ["color", "color", "number"]


def test_the_modality_gap_is_a_task(model_folder, shards, capsys):
    options = ["--tasks", "modality_gap", "--fields", "query,caption", "--batch-size", "8"]
    assert main(["evaluate", model_folder, shards, *options]) == 0
    printed = capsys.readouterr().out
    assert "## Modality gap: query" in printed and "## Modality gap: caption" in printed
    assert "| separability | " in printed and "| text_to_image/r5 | " in printed


def test_an_unknown_caption_method_is_refused_with_the_known_ones(model_folder, shards, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", model_folder, shards, "--caption-method", "beem"])
    assert caught.value.code == 2
    assert "'greedy', 'beam', 'nucleus'" in capsys.readouterr().err


def test_the_loops_functions_and_the_loaded_model_give_the_same_vectors(model_folder, tokenizer):
    exported = native.load(model_folder)
    graphdef = nnx.graphdef(
        abstract_module(lambda rngs: registry.build(exported.config, rngs=rngs))
    )
    polled = []
    functions = evaluation_functions(
        CoCaTask(model=exported.config),
        graphdef,
        make_mesh(MeshConfig()),
        lambda: polled.append(None),
    )
    one = from_functions(functions, exported.params, tokenizer, text_length=LENGTH, batch_size=8)
    other = from_model(load(model_folder), batch_size=8)
    pixels = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
    np.testing.assert_allclose(one.image(pixels), other.image(pixels), atol=1e-5)
    texts = [f"빨간색 옷 {i}" for i in range(11)]
    for style in ("query", None):
        np.testing.assert_allclose(one.text(texts, style), other.text(texts, style), atol=1e-5)
    assert len(polled) == 1 + 2 * 2  # a batch of images, two of texts in each style
    assert one.caption is not None and other.caption is not None
    assert one.caption(pixels, "prompt") == other.caption(pixels, "prompt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "zeroshot"], "did you mean 'zero_shot'"),
        (["--tasks", "zero_shot"], "needs --classes and --label"),
        (["--tasks", ","], "at least one"),
        (["--classes", "shop_types"], "1 --classes, but --label -"),
        (["--classes", "shop_typs", "--label", "type"], "did you mean 'shop_types'"),
        ([*ZERO_SHOT, "--styles", "querry"], "did you mean 'query'"),
        ([*ZERO_SHOT, "--styles", "query,query"], "once"),
        ([*ZERO_SHOT, *ZERO_SHOT], "2 --classes, but --label color, color"),
        (["--fields", "qery"], "did you mean 'query'"),
        (["--field-style", "query,prompt"], "takes one style"),
        (["--output", __file__], "must be a folder"),
        (["--tasks", "knn", "--label", "color"], "--train-source 'data/train-*.tar' --label type"),
        (["--tasks", "linear_probe,knn", "--train-source", "x"], "linear_probe and knn learn from"),
        (["--train-source", "x"], "ask for them with --tasks linear_probe,knn"),
        (["--train-limit", "9"], "ask for them with --tasks linear_probe,knn"),
        (["--tasks", "knn", "--label", "color", "--train-source", "gone.tar"], "gone.tar"),
        (["--batch-size", "0"], "batch_size must be at least 1"),
        (["--limit", "0"], "limit must be at least 1"),
        (
            ["--classes", "shop_types", "--label", "type", "--batch-size", "8"],
            "no record has a label 'type'; valid names: color, number",
        ),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(model_folder, shards, capsys, options, message):
    code = main(["evaluate", model_folder, shards, *options])
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_a_model_or_source_that_is_not_there_exits_with_2(model_folder, tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "none"), str(tmp_path)]) == 2
    assert main(["evaluate", model_folder, str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("kmm evaluate:") == 2


def test_queries_and_questions_are_tables_of_their_own(model_folder, tmp_path, capsys):
    with ShardWriter(tmp_path / "asked", prefix="test") as writer:
        for number in range(6):
            asked = [{"question": "무슨 색이야?", "answer": "빨간색", "kind": "color"}]
            colour = (40 * number, 20, 20)
            writer.write(record(number) | {"questions": asked}, jpeg(colour))
    source = str(tmp_path / "asked" / "test-*.tar")
    options = ["--tasks", "captions,queries,questions", "--batch-size", "4", "--json"]
    assert main(["evaluate", model_folder, source, *options]) == 0
    captions, queries, questions = json.loads(capsys.readouterr().out)["tables"]
    # Queries are made in their own style, which is none of the captions asked for.
    assert {name.split("/")[0] for name in captions["scores"]} == {"prompt"}
    assert queries["task"] == "queries" and queries["images"] == 6
    assert set(queries["scores"]) == {
        "exact", "nearest/r1", "nearest/r5", "nearest/r10", "nearest/median_rank"
    }  # fmt: skip
    assert questions["scores"]["color"]["chance"] == 1
    assert questions["questions"] == 6


def test_questions_of_a_set_that_has_none_are_refused(model_folder, shards, capsys):
    assert main(["evaluate", model_folder, shards, "--tasks", "questions"]) == 2
    assert "no record has questions" in capsys.readouterr().err
