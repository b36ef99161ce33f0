"""The Prompt-CoCa task on a real model: its weights, its rules over a mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.sharding import MeshConfig, make_mesh, param_specs, state_shardings
from kmm_jax.training.state import create, graph_of
from kmm_jax.training.update import make_update, place
from tests.tiny_models import tiny_coca

ROWS, LENGTH = 16, 8
TASK = CoCaTask(model=tiny_coca(depth=2, half=2, vocabulary=64, length=LENGTH, queries=2))


def batch():
    rng = np.random.default_rng(0)
    text = rng.integers(7, 64, (ROWS, LENGTH)).astype(np.int32)
    text[:, :2], text[:, -1] = [1, 5], 2
    return {
        "image": rng.integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8),
        "text": text,
    }


def test_the_loss_is_once_the_contrastive_and_twice_the_caption_loss_unless_told():
    module = TASK.init(jax.random.key(0))
    mesh = make_mesh(MeshConfig(data=1))
    rows = jax.tree.map(jnp.asarray, batch())
    loss, metrics = TASK.loss(module, rows, jax.random.key(1), mesh)
    np.testing.assert_allclose(
        loss, metrics["contrastive_loss"] + 2 * metrics["caption_loss"], rtol=1e-6
    )
    other = dataclasses.replace(TASK, contrastive_weight=0.5, caption_weight=3.0)
    weighed, _ = other.loss(module, rows, jax.random.key(1), mesh)
    np.testing.assert_allclose(
        weighed, 0.5 * metrics["contrastive_loss"] + 3 * metrics["caption_loss"], rtol=1e-6
    )


def two_updates(config):
    mesh, optimizer = make_mesh(config), optax.sgd(0.1)
    abstract = jax.eval_shape(lambda: create(TASK, optimizer, 0, averaged=False))
    specs = param_specs(abstract.params, TASK.sharding_rules, mesh, fsdp_min_size=1)
    shardings = state_shardings(abstract, specs, optimizer, mesh)
    state = jax.jit(lambda: create(TASK, optimizer, 0, averaged=False), out_shardings=shardings)()
    update = make_update(
        TASK, graph_of(TASK), optimizer, lambda step: jnp.float32(0.1), mesh, shardings
    )
    for _ in range(2):
        state, metrics = update(state, place(batch(), mesh))
    return state, metrics.fetch()


@pytest.fixture(scope="module")
def on_one():
    return two_updates(MeshConfig(data=1))


@pytest.mark.parametrize(
    "config",
    [MeshConfig(data=1, fsdp=8), MeshConfig(data=2, fsdp=2, tensor=2)],
    ids=["fsdp 8", "2 x 2 x 2"],
)
def test_two_updates_over_a_mesh_equal_those_of_one_device(on_one, config):
    state, metrics = two_updates(config)
    for name, value in on_one[1].items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    for found, expected in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(on_one[0].params), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_every_matrix_of_the_layers_is_split_over_fsdp_and_tensor():
    state, _ = two_updates(MeshConfig(data=2, fsdp=2, tensor=2))
    whole = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
        if "layers" in jax.tree_util.keystr(path)
        and leaf.ndim == 3
        and leaf.addressable_shards[0].data.size * 4 != leaf.size
    ]
    assert not whole
    assert isinstance(nnx.merge(graph_of(TASK), state.params).logit_scale, jax.Array)
