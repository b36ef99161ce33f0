"""Our own export: read back equal, readable by others, and damage found."""

import json

import numpy as np
import pytest

from kmm_jax.errors import DataError
from kmm_jax.interop import native
from tests.inference.conftest import exported  # noqa: F401 - the fixture is used below


@pytest.fixture
def folder(exported, tmp_path):  # noqa: F811
    native.save(tmp_path / "model", exported)
    return tmp_path / "model"


def test_everything_comes_back_equal(exported, folder):  # noqa: F811
    again = native.load(folder)
    assert again.config == exported.config
    assert again.tokenizer == exported.tokenizer
    assert again.styled
    before, after = native.flatten(exported.params), native.flatten(again.params)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def test_the_file_is_plain_safetensors_and_the_tokenizer_loads_in_transformers(folder):
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as file:
        assert "vision.blocks.layers.attention.query.kernel" in set(file.keys())
        assert file.metadata() == {"format": native.FORMAT}
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
    assert theirs.convert_tokens_to_ids("[QUERY]") == 5


def damage_truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_flip(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-50] ^= 0xFF
    path.write_bytes(data)


def damage_missing(folder):
    (folder / "model.safetensors").unlink()


def damage_json(folder):
    path = folder / "config.json"
    path.write_text(path.read_text("utf-8")[:-20], "utf-8")


def damage_format(folder):
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": "clip"}), "utf-8")


@pytest.mark.parametrize(
    "damage", [damage_truncate, damage_flip, damage_missing, damage_json, damage_format]
)
def test_damage_is_found_and_named(folder, damage):
    damage(folder)
    with pytest.raises(DataError, match=r"model|config"):
        native.load(folder)


def test_a_model_of_another_configuration_has_another_hash(exported):  # noqa: F811
    import dataclasses

    other = dataclasses.replace(exported.config, temperature=0.1)
    assert native.model_hash(exported.config, exported.params) != native.model_hash(
        other, exported.params
    )
