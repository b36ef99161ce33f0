"""The sweep: which rows are trained on, what is done once, what is said of it."""

import json
from random import Random

import numpy as np
import pytest

from kmm_jax.cli import main
from kmm_jax.corpus.sweep.page import sentence
from kmm_jax.corpus.sweep.scan import default_thresholds, scan
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.shop import ShopConfig, generate
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError

TINY = (
    "duration=2 steps", "global_batch_size=8", "task.model.vision.depth=1",
    "task.model.text.depth=1", "data.threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Shards whose similarities are drawn: titles about 0.2, queries about 0.4."""
    folder, rng = tmp_path_factory.mktemp("sweep"), Random(0)
    for split, items in (("train", 60), ("test", 24)):
        with ShardWriter(folder, prefix=split) as writer:
            for item in generate(ShopConfig(items=items, seed=3, image_size=32, split=split)):
                record = dict(item.record)
                record["title_kelip_score"] = round(rng.gauss(0.2, 0.05), 5)
                record["query_kelip_score"] = [
                    round(rng.gauss(0.4, 0.05), 5) for _ in record["query"]
                ]
                writer.write(record, item.jpeg)
    return folder


def test_rows_at_each_threshold_are_those_that_pass_it(shop):
    source = open_source(str(shop / "train-*.tar"))
    scanned = scan(source, ("title", "query"), lambda at, of: None)
    titles = [source.record(n)["title_kelip_score"] for n in range(60)]
    best = [max(source.record(n)["query_kelip_score"], default=-np.inf) for n in range(60)]
    for field, values in (("title", titles), ("query", best)):
        np.testing.assert_array_equal(scanned[field].best_N, values)
        for least in (0.2, 0.42):
            passing = {n for n, value in enumerate(values) if value >= least}
            assert scanned[field].available(least) == len(passing)
            assert set(scanned[field].rows(least, 1000, 0)) == passing
        assert len(set(scanned[field].rows(None, 10, 1))) == 10
    assert scanned["title"].counts_B.sum() == 60
    thresholds = default_thresholds(scanned)
    assert thresholds[0] is None and list(thresholds[1:]) == sorted(thresholds[1:])
    # The same rows as far as both pass, so that thresholds differ in little else.
    loose, tight = (set(scanned["title"].rows(t, 20, 0)) for t in (0.15, 0.2))
    assert len(loose & tight) >= 10


def test_the_command_trains_each_once_and_shows_which_is_best(shop, tmp_path, capsys, monkeypatch):
    words = [
        "corpus", "sweep", str(shop / "train-*.tar"), *TINY, "--test", str(shop / "test-*.tar"),
        "--classes", "shop_types", "--label", "type", "--config", "clip/shop", "--vocabulary",
        "400", "--thresholds", "all,0.2,0.9", "--rows", "20", "--fields", "title",
        "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(words) == 0
    first = capsys.readouterr()
    assert first.out.startswith("Best: title") and "zero-shot" in first.err
    result = json.loads((tmp_path / "out/sweep.json").read_text("utf-8"))
    scores = {c["least"]: c["top1"] for c in result["conditions"]}
    assert len(scores[None]) == len(scores[0.2]) == 1 and scores[0.9] == []
    assert not list((tmp_path / "out/runs").iterdir())
    page = (tmp_path / "out/sweep.html").read_text("utf-8")
    assert "too few rows" in page and page.count("<svg") == 2 and "http://" not in page.replace(
        "http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", "")  # fmt: skip

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr("kmm_jax.corpus.sweep.run.train", never)
    assert main(words) == 0
    assert json.loads((tmp_path / "out/sweep.json").read_text("utf-8")) == result


def test_mistakes_are_told(shop, tmp_path, capsys):
    def sweep(*more):
        words = ["corpus", "sweep", str(shop / "train-*.tar"), "--test", str(shop / "test-*.tar")]
        words += ["--classes", "shop_types", "--label", "type", "--output", str(tmp_path / "o")]
        return main([*words, *more])

    assert sweep("--thresholds", "all,high") == 2
    assert "'high' is no number" in capsys.readouterr().err
    assert sweep("--fields", "caption") == 2
    assert "fields are of title, query" in capsys.readouterr().err
    assert sweep("--thresholds", "0.9", "--rows", "10") == 2
    assert "no threshold leaves 10 rows" in capsys.readouterr().err
    assert sweep("--thresholds", "nan") == 2
    assert "a threshold is no number" in capsys.readouterr().err
    assert sweep("--config", "clip/shop", "--label", "kind") == 2  # before anything is trained
    assert "no label 'kind'" in capsys.readouterr().err
    assert not (tmp_path / "o" / "runs").exists()
    plain = open_source(str(shop / "test-*.tar"))
    with pytest.raises(DataError, match=r"similarity\.model=PATH"):
        scan(_unscored(plain), ("query",), lambda at, of: None)


def _unscored(source):
    class Unscored:
        name = "unscored"

        def __len__(self):
            return len(source)

        def record(self, number):
            return {**source.record(number), "query_kelip_score": None}

    return Unscored()


def test_a_looser_threshold_as_good_is_named():
    result = {
        "best": {"field": "query", "least": 0.3, "top1": 0.5},
        "classes": "c",
        "margin": 0.02,
        "loosest_as_good": {"least": 0.2, "available": 900},
        "by_field": {"query": 0.5, "title": 0.4},
    }
    said = sentence(result)
    assert ">= 0.3" in said and "900 rows" in said and "Trained on query, 50.0%" in said
