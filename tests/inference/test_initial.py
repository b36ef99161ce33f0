"""Parameters to begin from: equal, fitted to a larger picture, or refused with the difference."""

import dataclasses

import jax
import numpy as np
import pytest

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.inference.initial import initial_params
from kmm_jax.interop import native


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    path = tmp_path_factory.mktemp("begin") / "model"
    native.save(path, exported)
    return path


def larger(config, size):
    return dataclasses.replace(config, vision=dataclasses.replace(config.vision, image_size=size))


def test_the_same_configuration_gets_the_same_parameters(exported, folder):
    given = initial_params(folder, exported.config, tokenizer=folder)
    assert jax.tree.structure(given) == jax.tree.structure(exported.params)
    jax.tree.map(np.testing.assert_array_equal, given, exported.params)


def test_a_larger_picture_resizes_the_positions_and_nothing_else(exported, folder):
    given = native.flatten(initial_params(folder, larger(exported.config, 32), tokenizer=None))
    wanted = native.flatten(exported.params)
    assert given["vision.positions"].shape == (16, 32)
    for name, value in wanted.items():
        if name != "vision.positions":
            np.testing.assert_array_equal(given[name], value)


def test_any_other_difference_is_listed(exported, folder):
    config = exported.config
    other = dataclasses.replace(
        config, text=dataclasses.replace(config.text, vocabulary=400, unimodal_depth=2)
    )
    with pytest.raises(
        ConfigError, match=r"text\.vocabulary: 400 here, \d+ in(.|\n)*unimodal_depth: 2 here, 1"
    ):
        initial_params(folder, other, tokenizer=folder)


def test_no_model_is_said(exported, tmp_path):
    with pytest.raises(DataError, match="no exported model"):
        initial_params(tmp_path, exported.config, tokenizer=None)


def test_another_tokenizer_of_the_same_size_is_refused_and_the_right_one_named(
    exported, other_tokenizer, folder, tmp_path
):
    other_tokenizer.save(tmp_path / "other")
    with pytest.raises(ConfigError) as caught:
        initial_params(folder, exported.config, tokenizer=tmp_path / "other")
    said = str(caught.value)
    assert str(tmp_path / "other") in said
    assert other_tokenizer.fingerprint[:12] in said
    assert exported.tokenizer.fingerprint[:12] in said
    assert said.endswith(f"Train with tokenizer={folder}")
