"""The Prompt-CoCa task on a real model: its weights, its rules over a mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.sharding import MeshConfig, make_mesh
from kmm_jax.training.state import graph_of
from tests.tasks.updates import MESHES, OVER_MESHES, assert_equal, two_updates
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
    other = dataclasses.replace(TASK, contrastive_weight=0.5, caption_weight=3.0)

    def losses():
        module = TASK.init(jax.random.key(0))
        mesh = make_mesh(MeshConfig(data=1))
        rows = jax.tree.map(jnp.asarray, batch())
        return [task.loss(module, rows, jax.random.key(1), mesh) for task in (TASK, other)]

    (loss, metrics), (weighed, _) = jax.jit(losses)()
    np.testing.assert_allclose(
        loss, metrics["contrastive_loss"] + 2 * metrics["caption_loss"], rtol=1e-6
    )
    np.testing.assert_allclose(
        weighed, 0.5 * metrics["contrastive_loss"] + 3 * metrics["caption_loss"], rtol=1e-6
    )


@pytest.fixture(scope="module")
def on_one():
    return two_updates(TASK, batch(), MeshConfig(data=1))


@OVER_MESHES
def test_two_updates_over_a_mesh_equal_those_of_one_device(on_one, mesh):
    assert_equal(two_updates(TASK, batch(), MESHES[mesh]), on_one)


def test_every_matrix_of_the_layers_is_split_over_fsdp_and_tensor():
    state, _ = two_updates(TASK, batch(), MESHES["2 x 2 x 2"])
    whole = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
        if "layers" in jax.tree_util.keystr(path)
        and leaf.ndim == 3
        and leaf.addressable_shards[0].data.size * 4 != leaf.size
    ]
    assert not whole
    assert isinstance(nnx.merge(graph_of(TASK), state.params).logit_scale, jax.Array)
