"""The attribute task: over a mesh, in parts, from a CLIP's weights, and refusing what cannot be."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.data.config import DataConfig
from kmm_jax.errors import ConfigError
from kmm_jax.inference.initial import initial_params
from kmm_jax.interop import native
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.keys import Keys
from kmm_jax.tasks.attributes import AttributesTask
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.sharding import MeshConfig, make_mesh
from tests.models.test_attributes import LENGTH, tiny
from tests.tasks.updates import MESHES, OVER_MESHES, assert_equal, two_updates

ROWS = 16
TASK = AttributesTask(model=tiny())


@functools.cache
def batch():
    rng = np.random.default_rng(0)

    def words():
        ids = rng.integers(7, 64, (ROWS, LENGTH)).astype(np.int32)
        ids[:, 0], ids[:, -1] = 1, 2
        return ids

    statement = rng.integers(1, 9, ROWS).astype(np.int32)
    known = np.zeros((ROWS, 48), np.int32)
    known[:, 0], known[:, 1] = statement, rng.integers(1, 9, ROWS)
    return {
        "image": rng.integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8),
        "text": words(),
        "category": words(),
        "asked": rng.random(ROWS) < 0.7,
        "statement": statement,
        "known": known,
    }


@pytest.fixture(scope="module")
def on_one():
    return two_updates(TASK, batch(), MeshConfig(data=1))


@OVER_MESHES
def test_two_updates_over_a_mesh_equal_those_of_one_device(on_one, mesh):
    assert_equal(two_updates(TASK, batch(), MESHES[mesh]), on_one)


@pytest.mark.parametrize(
    "config",
    [MeshConfig(data=1), pytest.param(MESHES["2 x 2 x 2"], marks=pytest.mark.slow)],
    ids=["one", "eight"],
)
def test_two_updates_in_two_parts_equal_those_of_the_whole_batch(on_one, config):
    """Codes have no gradient, and reach the loss of the whole batch all the same."""
    assert_equal(two_updates(TASK, batch(), config, accumulate=2), on_one)


def test_with_nothing_asked_or_known_the_loss_is_clips():
    codes = np.arange(1, ROWS + 1, dtype=np.int32)
    plain = {
        **batch(),
        "asked": np.zeros(ROWS, bool),
        "statement": codes,
        "known": codes[:, None],
    }
    mesh = make_mesh(MeshConfig(data=1))
    module = TASK.init(jax.random.key(0))
    clip = CLIPTask(model=TASK.model.clip)
    rows = jax.tree.map(jnp.asarray, plain)
    ours = TASK.loss(module, rows, jax.random.key(1), mesh)[0]
    np.testing.assert_allclose(ours, clip.loss(module.clip, rows, jax.random.key(1), mesh)[0])


def test_a_clips_weights_begin_it(tmp_path):
    tokenizer = Tokenizer.train(["빨간색 셔츠", "이 상품의 패턴은 체크무늬입니다"], vocab_size=300)
    text = dataclasses.replace(TASK.model.text, vocabulary=tokenizer.vocab_size)
    config = dataclasses.replace(TASK.model, text=text)
    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(CLIP(config.clip, rngs=Keys(5)))))
    native.save(
        tmp_path / "clip",
        native.Exported(config=config.clip, params=params, tokenizer=tokenizer, styled=False),
    )
    given = initial_params(tmp_path / "clip", config, tokenizer=None, fresh="(fusion|gate)(/.*)?")
    assert given.keys() == {"clip"}
    jax.tree.map(np.testing.assert_array_equal, given["clip"], jax.device_get(params))


def test_data_without_statements_is_refused():
    data = DataConfig(sources=(), image_size=16, text_length=LENGTH)
    with pytest.raises(ConfigError, match=r"data\.fields has none"):
        TASK.check(data=data, vocabulary=64)
