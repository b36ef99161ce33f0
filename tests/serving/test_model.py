"""A trained model behind the service: all is compiled before the first request."""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from kmm_jax.inference.model import Model
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.search.document_search import DocumentSearch, Query
from kmm_jax.search.documents import document
from kmm_jax.search.pictures import PictureFolder
from kmm_jax.text.tokenizer import Tokenizer
from tests.serving.served import served, wait_until_ready
from tests.tiny_models import tiny_coca

TITLES = ["빨간 체크 셔츠", "파란 줄무늬 원피스", "검은색 운동화", "노란 우산과 장갑"]


@pytest.fixture(scope="module")
def exported() -> native.Exported:
    tokenizer = Tokenizer.train(TITLES * 3, vocab_size=300)
    config = tiny_coca(vocabulary=tokenizer.vocab_size, length=12)
    params = nnx.as_pure(nnx.state(registry.build(config, rngs=nnx.Rngs(0)), nnx.Param))
    params = jax.tree.map(lambda x: x * 1.5, nnx.to_pure_dict(params))
    return native.Exported(config=config, params=params, tokenizer=tokenizer, styled=True)


@pytest.fixture(scope="module")
def place(exported: native.Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model``, ``photos`` and ``documents`` that were made with it."""
    found = tmp_path_factory.mktemp("served")
    native.save(found / "model", exported)
    (found / "photos").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number, title in enumerate(TITLES):
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(found / "photos" / f"{number}.png")
        rows.append(
            {
                "id": f"{number}",
                "title": title,
                "images": [{"hash": f"h{number}", "path": f"{number}.png"}],
            }
        )
    documents = DocumentSearch(
        found / "documents", model_of(found, exported), notes={"model_path": str(found / "model")}
    )
    documents.put([document(row) for row in rows], PictureFolder(found / "photos"))
    return found


def model_of(place: Path, exported: native.Exported) -> Model:
    return Model(
        exported.config,
        exported.params,
        exported.tokenizer,
        styled=True,
        hash=exported.hash,
        path=place / "model",
    )


def test_nothing_is_compiled_for_requests(place: Path, exported: native.Exported) -> None:
    model = model_of(place, exported)
    programs = (model._embed_text, model._embed_image, model._heat_map)
    with served(
        place / "documents", model, pictures=place / "photos", batch=4, threads=2
    ) as address:
        compiled = [program._cache_size() for program in programs]
        assert all(compiled)
        data = (place / "photos" / "1.png").read_bytes()

        def ask(number: int) -> Any:
            asked: dict[str, Any] = {"text": f"{TITLES[number % 4]} {'아주 ' * number}"}
            if number % 3 == 0:
                asked["image"] = base64.b64encode(data + bytes(number)).decode()
            return httpx2.post(f"{address}/v1/search", json=asked, timeout=240)

        with concurrent.futures.ThreadPoolExecutor(7) as pool:
            answers = list(pool.map(ask, range(21)))
        heat = {"document": "1", "hash": "h1", "text": "원피스"}
        found = httpx2.get(f"{address}/v1/heat", params=heat, timeout=240).json()["heat"]
        assert {answer.status_code for answer in answers} == {200}
        assert [program._cache_size() for program in programs] == compiled
    expected = model.heat_map([data], ["원피스"])[0]
    low, high = expected.min(), expected.max()
    np.testing.assert_allclose(found, (expected - low) / (high - low), atol=1e-3)
    library = DocumentSearch(place / "documents", model)
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    hits = library.search(Query(text=f"{TITLES[3]} {'아주 ' * 3}", image=picture))
    assert [hit["id"] for hit in answers[3].json()["hits"]] == [hit.document.id for hit in hits]


def test_the_command_serves_until_it_is_told_to_stop(place: Path, repository: Path) -> None:
    command = [sys.executable, "-m", "kmm_jax", "serve", str(place / "documents")]
    options = ["--images", str(place / "photos"), "--port", "0", "--batch", "2"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=repository,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XLA_FLAGS": ""},
    )
    try:
        assert process.stderr is not None
        heard = []
        for line in process.stderr:
            heard.append(line)
            if found := re.match(r"kmm serve: (http://127\.0\.0\.1:\d+)/", line):
                address = found[1]
                break
        else:
            raise AssertionError("".join(heard))
        wait_until_ready(address)
        hits = httpx2.post(f"{address}/v1/search", json={"text": "체크 셔츠"}, timeout=240).json()
        assert len(hits["hits"]) == 4 and "words" in hits["hits"][0]["parts"]
        assert "<html" in httpx2.get(address).text
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(120) in (0, -signal.SIGTERM), rest
    finally:
        process.kill()
    lines = [json.loads(line) for line in rest.splitlines()]
    assert any(line["event"] == "ready" and line["documents"] == 4 for line in lines)
    assert any(line.get("path") == "/v1/search" and line["status"] == 200 for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none holds no documents"),
        (["documents", "--host", "0.0.0.0"], "no key is asked for"),
        (["documents", "--keys", "none"], "--keys none is no file"),
        (["documents", "--images", "none"], "--images none is no folder"),
        (["documents", "--batch", "3"], "batch must be a power of two"),
    ],
)
def test_what_cannot_be_served_ends_with_2_and_a_line(
    place: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kmm_jax.cli import main

    monkeypatch.chdir(place)
    monkeypatch.delenv("KMM_SERVE_KEY", raising=False)
    assert main(["serve", *words, "--port", "0"]) == 2
    assert message in capsys.readouterr().err
