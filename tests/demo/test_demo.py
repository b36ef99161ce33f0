"""`kmm demo` from nothing to a page: its stages, a second call, and how it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import kmm_jax.inference
from kmm_jax.cli import main
from kmm_jax.data.sources import open_source
from kmm_jax.demo import run
from kmm_jax.demo.corpus import CorpusConfig
from kmm_jax.demo.run import build_demo, sets_of, told
from kmm_jax.errors import DataError
from kmm_jax.quickstart import recipes
from kmm_jax.quickstart.prepare import prepare_together
from kmm_jax.search.document_search import DocumentSearch
from kmm_jax.search.document_view import Query
from tests.search.colors import Colors

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")

CONFIG = CorpusConfig(documents=80, side=32, texts=20, images=12, both=12, less=4)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demonstration whose model knows the mean colour of pictures."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "model").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmm_jax.inference, "load", lambda path: Colors())
        build_demo(folder / "demo", model=str(folder / "model"), config=CONFIG)
    return folder


def test_the_second_call_makes_nothing(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("made a second time")

    for name in ("index_documents", "trained_model", "learn_from"):
        monkeypatch.setattr(run, name, refuse)
    demo = build_demo(output / "demo", model=str(output / "model"), config=CONFIG)
    assert demo.model == str(output / "model")
    kinds = [(bool(one.text), one.picture is not None) for one in demo.tries]
    assert kinds == [(True, False), (False, True), (True, True)]
    said = told(demo, "http://127.0.0.1:8000/")
    assert "http://127.0.0.1:8000/?q=%" in said and "끝내려면 Ctrl-C" in said
    assert all(str(one.picture) in said for one in demo.tries if one.picture)
    search = DocumentSearch(demo.documents, Colors())
    assert len(search.view()) == 80 and search.view().learned
    assert search.search(Query(text=demo.tries[0].text, fusion="learned"))
    assert {"category", "color", "pattern", "season"} <= set(search.view().columns)


def test_another_model_has_the_documents_made_anew(
    output: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Others(Colors):
        hash = "others"

    (tmp_path / "demo").symlink_to(output / "demo")
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: Others())
    demo = build_demo(tmp_path / "demo", model=str(tmp_path), config=CONFIG)
    assert DocumentSearch(demo.documents, Others()).view().learned
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: Colors())
    build_demo(tmp_path / "demo", model=str(output / "model"), config=CONFIG)


_SCRIPT = """
import sys
import kmm_jax.inference
from tests.search.colors import Colors
kmm_jax.inference.load = lambda path: Colors()
from kmm_jax.demo import corpus
from kmm_jax.cli import main
import tests.demo.test_demo as here
from kmm_jax.demo import run
run.CorpusConfig = lambda sets: here.CONFIG
sys.exit(main(["demo", "--output", sys.argv[1], "--model", sys.argv[2], "--port", "0"]))
"""


def test_it_serves_and_ends_in_order_when_told_to(output: Path, repository: Path) -> None:
    pytest.importorskip("fastapi", reason="the service is in the extra serve")
    pytest.importorskip("uvicorn", reason="the service is in the extra serve")
    environment = {name: value for name, value in os.environ.items() if name != "KMM_DATA_DIR"}
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(output / "demo"), str(output / "model")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=repository,
        env=environment,
    )
    try:
        assert process.stdout is not None
        address = ""
        for line in process.stdout:
            if "search page" in line:
                address = line.split()[-1]
                break
        assert address.startswith("http://127.0.0.1:")
        page = urllib.request.urlopen(address, timeout=120).read().decode()
        assert "kmm" in page
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, error
    assert "끝냈습니다" in error and "Traceback" not in error


def test_a_port_that_is_taken_is_said_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fastapi", reason="the service is in the extra serve")
    from kmm_jax.serving.keys import Keys
    from kmm_jax.serving.server import listening
    from kmm_jax.serving.settings import Settings

    with listening(Settings(port=0), Keys({})) as opened:
        port = str(opened.getsockname()[1])
        assert main(["demo", "--output", str(tmp_path / "demo"), "--port", port]) == 2
    assert "choose another with --host and --port" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_sets_are_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KMM_DATA_DIR", raising=False)
    assert sets_of(None) == ("shop",)
    monkeypatch.setenv("KMM_DATA_DIR", str(tmp_path))
    assert sets_of(None) == ("shop",) and "the shop alone" in capsys.readouterr().err
    with pytest.raises(DataError, match="holds no fashion_products"):
        sets_of(tmp_path)
    (tmp_path / "fashion_products.tsv").write_text("")
    (tmp_path / "fashion_products.tar").write_text("")
    assert sets_of(None) == sets_of(tmp_path) == ("shop", "fashion_products")


def test_several_sets_are_prepared_for_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(recipes.RECIPES["shop"], train=24, test=4)

    def write(name: str, recipe: Any, data: Path, folder: Any) -> dict[str, Any]:
        from kmm_jax.data.shop import write_shop

        seed = len(name)
        return write_shop(data, train=recipe.train, test=recipe.test, seed=seed, image_size=32)

    monkeypatch.setattr("kmm_jax.quickstart.prepare._shards", write)
    both = {"shop": small, "other": small}
    made = prepare_together(both, tmp_path, folder=None, vocabulary=300)
    assert len(open_source(made.train)) == 48 and len(open_source(made.test)) == 8
    assert (made.tokenizer / "tokenizer.json").is_file()
    note = json.loads((tmp_path / "data" / "tokenizer_made_from.json").read_text("utf-8"))
    assert note.keys() == {"shop", "other", "vocabulary"}
