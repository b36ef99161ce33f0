"""LAION's watermark detector: from timm's names to a folder, and to scores of a corpus."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kmm_jax.corpus.scoring.protocol import Sample
from kmm_jax.corpus.scoring.watermark import COLUMN, Watermark
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.interop import detectors
from tests import references
from tools import import_checkpoint
from tools.parity import detector

SIZE = 64


@pytest.fixture(scope="module")
def theirs():
    references.open_clip()  # timm imports torchvision, which this makes importable
    pytest.importorskip("timm")
    return detector.original(SIZE)


@pytest.fixture(scope="module")
def file(theirs, tmp_path_factory):
    """The weights as they are once ``tools.convert_pickle`` has been at them."""
    path = tmp_path_factory.mktemp("laion") / "watermark.safetensors"
    detector.save(theirs, path)
    return path


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory):
    output = tmp_path_factory.mktemp("detectors") / "laion"
    arguments = [str(file), "--image-size", str(SIZE), "--output", str(output)]
    assert import_checkpoint.main(arguments) == 0
    return output


@pytest.fixture(scope="module")
def pictures():
    return detector.pictures(3, SIZE)


def scores(score, pictures):
    samples = [Sample("", pixels, (), ()) for pixels in pictures]
    return [values[COLUMN] for values in score.load().score(samples)]


def test_the_corpus_scores_by_it_as_timm_does(theirs, folder, pictures):
    logits = detector.logits(theirs, pictures)
    marked = np.exp(logits[:, 0]) / np.exp(logits).sum(axis=1)
    assert np.ptp(marked) > 0.01, "the pictures differ in their scores"
    score = Watermark(weights=str(folder), batch=4)
    assert score.side == SIZE
    np.testing.assert_allclose(scores(score, pictures), marked, atol=2e-5)


def test_its_identity_is_all_that_its_scores_depend_on(file, folder, tmp_path):
    def identity(path):
        found = Watermark(weights=str(path)).identity()
        assert json.loads(json.dumps(found)) == found
        return found

    assert identity(folder) == identity(folder)
    _, model = detectors.load(folder)
    detectors.save(tmp_path / "larger", model, image_size=2 * SIZE)
    assert identity(tmp_path / "larger") != identity(folder)
    assert identity(tmp_path / "larger")["sha256"] == identity(folder)["sha256"]
    assert Watermark(weights=str(file)).side == detectors.DetectorConfig().image_size == 256
    detectors.save(folder, model, image_size=SIZE)  # replaced by its like, nothing else is


def test_tensors_are_read_back_as_they_were(file, folder):
    weights = detectors.recognise(file)
    assert weights is not None
    stem = load_file(folder / detectors.WEIGHTS)["stem.convolution.kernel"]
    np.testing.assert_array_equal(stem, weights["conv_stem.weight"].transpose(2, 3, 1, 0))
    statistics = load_file(folder / detectors.WEIGHTS)["last.norm.var"]
    np.testing.assert_array_equal(statistics, weights["bn2.running_var"])


def test_a_wrappers_prefix_is_seen_through(file, tmp_path):
    named = {f"module.{name}": value for name, value in load_file(file).items()}
    save_file(named, tmp_path / "wrapped.safetensors")
    below = detectors.recognise(tmp_path / "wrapped.safetensors")
    assert below is not None and "conv_stem.weight" in below


def test_other_networks_are_no_detector(file, tmp_path, capsys):
    named = load_file(file)
    classes = {**named, "classifier.5.weight": np.zeros((9, 256), np.float32)}
    classes["classifier.5.bias"] = np.zeros(9, np.float32)
    without = {name: value for name, value in named.items() if name != "bn1.running_var"}
    for number, (tensors, said) in enumerate(
        ((classes, "tells 9 classes apart"), (without, r"1 tensors are missing .*bn1\.running_var"))
    ):
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors, path)
        weights = detectors.recognise(path)
        assert weights is not None
        with pytest.raises(DataError, match=said):
            detectors.from_timm(weights, path)
    plain = {name: value for name, value in named.items() if not name.startswith("classifier.")}
    save_file({**plain, "classifier.weight": np.zeros((1000, 1536))}, tmp_path / "b3.safetensors")
    assert detectors.recognise(tmp_path / "b3.safetensors") is None
    arguments = [str(tmp_path / "b3.safetensors"), "--output", str(tmp_path / "out")]
    assert import_checkpoint.main(arguments) == 2
    assert "none of the weights" in capsys.readouterr().err
    assert import_checkpoint.main([*arguments, "--image-size", "320"]) == 2
    assert "--image-size is of a watermark detector" in capsys.readouterr().err


def test_a_damaged_folder_is_named(folder, tmp_path):
    config, model = detectors.load(folder)
    copy = tmp_path / "copy"
    detectors.save(copy, model, image_size=config.image_size)
    file = copy / detectors.WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="is not what was written"):
        Watermark(weights=str(copy)).load()
    file.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        Watermark(weights=str(copy)).identity()
    (copy / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no detector of this library"):
        _ = Watermark(weights=str(copy)).side
    with pytest.raises(UserError, match="is no detector"):
        detectors.save(copy, model, image_size=SIZE)
    with pytest.raises(UserError, match="nothing after five halvings"):
        detectors.save(tmp_path / "small", model, image_size=16)
