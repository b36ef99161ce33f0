"""Our own export: read back equal, readable by others, and damage found."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from kmm_jax.errors import DataError
from kmm_jax.interop import native
from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.text.adopted import openai_bpe
from kmm_jax.text.tokenizer import Tokenizer
from tests.inference.conftest import TEXTS, exported  # noqa: F401 - the fixture is used below


@pytest.fixture
def folder(exported, tmp_path):  # noqa: F811
    native.save(tmp_path / "model", dataclasses.replace(exported, step=7))
    return tmp_path / "model"


def test_everything_comes_back_equal(exported, folder):  # noqa: F811
    again = native.load(folder)
    assert again.config == exported.config
    assert again.tokenizer == exported.tokenizer
    assert again.styled
    assert again.step == 7
    assert again.hash == exported.hash
    before, after = native.flatten(exported.params), native.flatten(again.params)
    assert jax.tree.structure(again.params) == jax.tree.structure(exported.params)
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


def damage_tokenizer(folder):
    other = folder.parent / "other"
    Tokenizer.train([text[::-1] for text in TEXTS] * 3, vocab_size=320).save(other)
    (other / "tokenizer.json").replace(folder / "tokenizer.json")


def damage_styled(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, "styled": not config["styled"]}), "utf-8")


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate,
        damage_flip,
        damage_missing,
        damage_json,
        damage_format,
        damage_tokenizer,
        damage_styled,
    ],
)
def test_damage_is_found_and_named(folder, damage):
    damage(folder)
    with pytest.raises(DataError, match=r"model|config"):
        native.load(folder)


def test_whatever_changes_an_output_changes_the_hash(exported):  # noqa: F811
    text = dataclasses.replace(exported.config.text, norm_epsilon=1e-5)
    changes = [
        {"config": dataclasses.replace(exported.config, text=text)},
        {"params": {**exported.params, "log_scale": exported.params["log_scale"] + 1}},
        {"tokenizer": Tokenizer.train([*TEXTS, "모자"] * 3, vocab_size=320)},
        {"styled": False},
    ]
    hashes = {dataclasses.replace(exported, **change).hash for change in changes}
    assert len(hashes | {exported.hash}) == 1 + len(changes)


def test_models_that_were_exported_once_keep_their_hash():
    """Computed before a text tower could be of another kind."""
    config = clip_tiny(vocabulary=520, image_size=16)
    named = {
        name: np.zeros(shape, np.float32) for name, shape in native.parameter_shapes(config).items()
    }
    exported = native.Exported(  # noqa: F811
        config=config,
        params=native.unflatten(named),
        tokenizer=Tokenizer(openai_bpe([("c", "a")])),
        styled=False,
    )
    assert exported.hash == "dd5439573306b69b"


def test_what_only_training_looks_at_is_no_part_of_the_hash(exported):  # noqa: F811
    config = exported.config
    parts = {
        name: dataclasses.replace(getattr(config, name), remat="full")
        for name in ("vision", "text")
    }
    again = dataclasses.replace(exported, config=dataclasses.replace(config, **parts), step=9)
    assert again.hash == exported.hash
