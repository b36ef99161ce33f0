"""The CLIP task on a real model over a mesh: one device's update, and no weight gathered whole."""

import dataclasses
import re

import numpy as np
import pytest

from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training.sharding import MeshConfig
from tests.tasks.updates import MESHES, assert_equal, two_updates, updater

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


@pytest.fixture(scope="module")
def on_one():
    return two_updates(TASK, batch(), MeshConfig(data=1))


@pytest.mark.parametrize("mesh", MESHES)
def test_two_updates_over_a_mesh_equal_those_of_one_device(on_one, mesh):
    assert_equal(two_updates(TASK, batch(), MESHES[mesh]), on_one)


def test_over_tensor_only_activations_are_summed_and_nothing_is_gathered():
    """Each device multiplies by its own heads' part of the joint projections."""
    update, _, _ = updater(TASK, batch(), MeshConfig(data=1, tensor=4))
    found = re.findall(r"= (\S+) (all-\w+|collective-permute|reduce-scatter)\(", update.as_text())
    assert found and {kind for _, kind in found} == {"all-reduce"}
    assert all(re.match(rf"f32\[{ROWS},\d+,{WIDTH}\]", shape) for shape, _ in found), found
