"""The CLIP task on a real model over a mesh: one device's update, and no weight gathered whole."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training.sharding import MeshConfig, make_mesh, param_specs, state_shardings
from kmm_jax.training.state import create, graph_of
from kmm_jax.training.update import make_update, place

ROWS, LENGTH, WIDTH = 16, 8, 64


def tiny_clip():
    config = clip_tiny(vocabulary=64, image_size=16)
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, width=WIDTH, depth=2, hidden=4 * WIDTH),
        text=dataclasses.replace(
            config.text, width=WIDTH, depth=2, hidden=4 * WIDTH, length=LENGTH
        ),
        embedding=32,
    )


TASK = CLIPTask(model=tiny_clip())


def batch():
    rng = np.random.default_rng(0)
    text = rng.integers(7, 64, (ROWS, LENGTH)).astype(np.int32)
    text[:, 0], text[:, -1] = 1, 2
    return {"image": rng.integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8), "text": text}


def updater(config):
    mesh, optimizer = make_mesh(config), optax.sgd(0.1)
    abstract = jax.eval_shape(lambda: create(TASK, optimizer, 0, averaged=False))
    specs = param_specs(abstract.params, TASK.sharding_rules, mesh, fsdp_min_size=1)
    shardings = state_shardings(abstract, specs, optimizer, mesh)
    state = jax.jit(lambda: create(TASK, optimizer, 0, averaged=False), out_shardings=shardings)()
    update = make_update(
        TASK, graph_of(TASK), optimizer, lambda step: jnp.float32(0.1), mesh, shardings
    )
    rows = place(batch(), mesh)
    return update.lower(state, rows).compile(), state, rows


def two_updates(config):
    update, state, rows = updater(config)
    for _ in range(2):
        state, metrics = update(state, rows)
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


def test_over_tensor_only_activations_are_summed_and_nothing_is_gathered():
    """Each device multiplies by its own heads' part of the joint projections."""
    update, _, _ = updater(MeshConfig(data=1, tensor=4))
    found = re.findall(r"= (\S+) (all-\w+|collective-permute|reduce-scatter)\(", update.as_text())
    assert found and {kind for _, kind in found} == {"all-reduce"}
    assert all(re.match(rf"f32\[{ROWS},\d+,{WIDTH}\]", shape) for shape, _ in found), found
