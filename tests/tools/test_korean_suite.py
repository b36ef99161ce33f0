"""The suite's results page, from a model to the files, on a few pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from kmm_jax.inference import load
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.text.tokenizer import Tokenizer
from tests.tiny_models import tiny_coca
from tools import korean_suite, results


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A CoCa that has seen nothing."""
    from flax import nnx

    tokenizer = Tokenizer.train(["빨간 치마 사진", "a photo of a skirt"] * 20, vocab_size=300)
    config = tiny_coca(vocabulary=tokenizer.vocab_size, length=16)
    module = registry.build(config, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))
    folder = tmp_path_factory.mktemp("export") / "model"
    native.save(
        folder, native.Exported(config=config, params=params, tokenizer=tokenizer, styled=True)
    )
    return folder


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("clothing-dataset-small", "cifar10"):
        keys = ("dress", "hat") if name.startswith("c") and "small" in name else ("cat", "dog")
        for part in ("train", "test"):
            for key in keys:
                for n in range(3):
                    file = tmp_path / name / part / key / f"{n}.jpg"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
                    Image.fromarray(pixels).save(file)
    return tmp_path


def test_a_page_with_its_picture_and_what_evaluation_costs(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(korean_suite, "_ROUNDS", 2)
    options = ["--data", str(data), "--work", str(tmp_path / "work"), "--only", "clothing,korsts"]
    assert korean_suite.main([f"tiny={model}", *options]) == 0
    values = json.loads((tmp_path / "results/korean_suite.json").read_text("utf-8"))
    (one,) = values["models"]
    assert (one["title"], one["hash"]) == ("tiny", load(model).hash)
    assert one["measured"]["clothing"]["images"] == 6
    assert [absent["benchmark"] for absent in values["absent"]] == ["korsts"]
    assert values["cost"]["images"] == 6
    assert values["cost"]["ratio"] > 0
    page = (tmp_path / "results/korean_suite.md").read_text("utf-8")
    assert "| Clothing dataset (small) | Korean | top 1 | 6 | 10.0 |" in page
    assert "read and embedded alone" in page
    assert str(tmp_path) not in page
    assert (tmp_path / "results/korean_suite.svg").is_file()


def test_a_model_without_a_title_is_refused(data, capsys):
    assert korean_suite.main(["runs/x", "--data", str(data)]) == 2
    assert "TITLE=RUN" in capsys.readouterr().err
