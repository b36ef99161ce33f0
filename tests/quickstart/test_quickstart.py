"""The quickstart on a handful of rows: its files, what the README says of them, a second call."""

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

import kmm_jax
from kmm_jax.cli import main
from kmm_jax.data.sources import open_source
from kmm_jax.errors import UserError
from kmm_jax.quickstart import recipes
from kmm_jax.quickstart.clock import Clock
from kmm_jax.quickstart.prepare import prepare
from kmm_jax.quickstart.run import _index_table
from kmm_jax.retrieval import scann_engine
from kmm_jax.retrieval.compose import compose
from kmm_jax.text.normalize import normalize
from kmm_jax.text.tokenizer import Tokenizer

SMALL = (
    "duration=3 steps",
    "global_batch_size=16",
    "data.image_size=16",
    "task.model.vision.image_size=16",
    "task.model.vision.depth=1",
    "task.model.vision.width=32",
    "task.model.vision.heads=1",
    "task.model.vision.hidden=32",
    "task.model.text.width=32",
    "task.model.text.heads=1",
    "task.model.text.hidden=32",
    "task.model.pooler_heads=1",
    "task.model.queries=2",
    "task.model.embedding=32",
)


def refuse(*arguments):
    raise AssertionError("made a second time")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    small = dataclasses.replace(recipes.RECIPES["shop"], train=64, test=48, vocabulary=400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.RECIPES, "shop", small)
        assert main(["quickstart", "--output", str(folder), *SMALL]) == 0
        first = json.loads((folder / "results.json").read_text("utf-8"))
        patch.setattr("kmm_jax.text.tokenizer.train_backend", refuse)
        patch.setattr("kmm_jax.data.shop.writing.render_item", refuse)
        assert main(["quickstart", "--output", str(folder), *SMALL]) == 0
    return folder, first


def test_results_hold_every_score_beside_its_chance(output):
    _, results = output
    assert results["zero_shot"].keys() >= {"top1", "chance"}
    for direction in ("text_to_image", "image_to_text"):
        assert results[direction].keys() >= {"r1", "r5", "r10", "chance_r5", "gallery"}
    assert results["text_to_image"]["gallery"] == 48
    # The same product name may stand for several pictures: fewer texts than rows.
    assert results["image_to_text"]["gallery"] <= 48
    assert results["scann"]["recall10"] >= 0.95
    assert results["scann"]["engine"].startswith(("scann ", "exact "))
    assert results["seconds"] > 0


def test_recall_is_measured_with_texts_that_the_index_does_not_hold(output):
    folder, results = output
    page = (folder / "report.html").read_text("utf-8")
    texts = set()
    source = open_source(str(folder / "shop" / "data" / "test-*.tar"))
    for number in range(len(source)):
        texts.add(normalize(source.read(number).record["product_name"]))
    assert f"{len(texts)} distinct held-out texts (shopping) as queries over all 48" in page
    index = kmm_jax.retrieval.Index.load(folder / "shop" / "index")
    model = kmm_jax.load(folder / "shop" / "model")
    recall = index.recall(model.embed_text(sorted(texts), "shopping"), k=10)
    assert recall == pytest.approx(results["scann"]["recall10"], abs=0.02)


@pytest.mark.parametrize(
    ("engine", "title"),
    [("auto", "ScaNN against exact search"), ("exact", "Exact search alone, without ScaNN")],
)
def test_the_table_says_which_engine_searched(output, engine, title):
    if engine == "auto" and scann_engine.unavailable():
        pytest.skip("ScaNN does not run here")
    folder, _ = output
    index = kmm_jax.retrieval.Index.load(folder / "shop" / "index", engine=engine)
    table = _index_table(1.0, index, ["빨간 셔츠"], "shopping")
    assert table.title == title
    assert index.info()["engine"] in table.protocol


def test_a_tokenizer_of_other_data_or_size_is_trained_again(tmp_path, monkeypatch):
    small = dataclasses.replace(recipes.RECIPES["shop"], train=64, test=8, vocabulary=400)

    def prepared(**changes):
        made = prepare("shop", dataclasses.replace(small, **changes), tmp_path, folder=None)
        return Tokenizer.load(made.tokenizer)

    first = prepared()
    assert prepared(train=40) != first
    assert prepared() == first
    assert prepared(vocabulary=350).vocab_size == 350
    # A newer version that draws or words the shop otherwise.
    monkeypatch.setattr("kmm_jax.data.shop.writing._code_version", lambda: "changed")
    trained = []
    monkeypatch.setattr(
        "kmm_jax.quickstart.prepare._texts", lambda url: trained.append(url) or ["셔츠"] * 9
    )
    before = (tmp_path / "data" / "train-000.tar").stat().st_mtime_ns
    prepared()
    prepared()
    assert len(trained) == 1
    assert (tmp_path / "data" / "train-000.tar").stat().st_mtime_ns != before


def test_a_second_call_trains_no_more_and_keeps_the_seconds(output):
    folder, first = output
    second = json.loads((folder / "results.json").read_text("utf-8"))
    for stage in ("data", "training"):
        assert second["seconds_by_stage"][stage] == first["seconds_by_stage"][stage]
    assert second["model"] == first["model"]
    assert second["text_to_image"] == first["text_to_image"]


def test_the_report_is_one_page_with_pictures_and_korean(output):
    folder, _ = output
    page = (folder / "report.html").read_text("utf-8")
    assert page.count("<svg") == 2
    assert page.count("data:image/jpeg;base64,") > 40
    assert "빨간 체크 셔츠" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


def test_what_the_readme_says_works(output):
    folder, _ = output
    model = kmm_jax.load(folder / "shop" / "model")
    picture = Image.fromarray(np.full((30, 20, 3), 200, np.uint8))
    text, image = model.embed_text(["빨간 체크 셔츠"]), model.embed_image([picture])
    assert len(model.caption([picture], style="prompt")) == 1
    index = kmm_jax.retrieval.Index.load(folder / "shop" / "index", model_hash=model.hash)
    assert len(index.search(text, k=10).ids[0]) == 10
    assert len(index.search(compose(text, image), k=3).ids[0]) == 3


def test_kmm_search_finds_model_and_pictures_from_any_folder(output, tmp_path, monkeypatch, capsys):
    folder, _ = output
    monkeypatch.chdir(tmp_path)
    index = str(folder / "shop" / "index")
    assert main(["search", index, "빨간 체크 셔츠", "-k", "4", "--sheet", "sheet.html"]) == 0
    page = (tmp_path / "sheet.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 4
    assert main(["search", index, "빨간 체크 셔츠", "--model", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err


def test_a_folder_that_is_no_export_is_not_replaced(output):
    from kmm_jax.inference.loading import read
    from kmm_jax.interop import native

    folder, _ = output
    with pytest.raises(UserError, match="no exported model"):
        native.save(folder / "shop" / "run", read(folder / "shop" / "run"))
    assert (folder / "shop" / "run" / "checkpoints").is_dir()


def test_unknown_or_missing_data_is_said(tmp_path, capsys, monkeypatch):
    assert main(["quickstart", "--data", "shopp", "--output", str(tmp_path)]) == 2
    assert "did you mean 'shop'" in capsys.readouterr().err
    monkeypatch.delenv("KMM_DATA_DIR", raising=False)
    assert main(["quickstart", "--data", "fashion_products", "--output", str(tmp_path)]) == 2
    assert "KMM_DATA_DIR" in capsys.readouterr().err


def test_interrupted_parts_of_kept_work_add_up(tmp_path):
    for attempt in range(3):
        clock = Clock(tmp_path / "seconds.json")
        try:
            with clock.stage("training", "t", once=True):
                if attempt == 0:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        if attempt == 1:
            done = clock.seconds
    assert clock.seconds == done
