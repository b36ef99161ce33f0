"""Parameters to begin from: equal, fitted to a larger picture, or refused with the difference."""

import dataclasses

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
    given, wanted = (
        native.flatten(params)
        for params in (initial_params(folder, exported.config), exported.params)
    )
    assert given.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(given[name], value)


def test_a_larger_picture_resizes_the_positions_and_nothing_else(exported, folder):
    given = native.flatten(initial_params(folder, larger(exported.config, 32)))
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
    with pytest.raises(ConfigError, match=r"text\.embedding\.tokens\.embedding"):
        initial_params(folder, other)


def test_no_model_is_said(exported, tmp_path):
    with pytest.raises(DataError, match="no exported model"):
        initial_params(tmp_path, exported.config)
