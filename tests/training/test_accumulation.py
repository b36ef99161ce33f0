"""A batch computed in parts against the same batch whole: loss, metrics and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.accumulation import gradients
from kmm_jax.training.sharding import MeshConfig, make_mesh
from kmm_jax.training.state import graph_of
from tests.tiny_models import tiny_coca

ROWS, LENGTH, VOCABULARY = 24, 8, 50


def coca():
    return CoCaTask(model=tiny_coca(vocabulary=VOCABULARY, length=LENGTH, queries=2))


def clip():
    model = clip_tiny(vocabulary=VOCABULARY, image_size=16)
    return CLIPTask(
        model=dataclasses.replace(model, text=dataclasses.replace(model.text, length=LENGTH))
    )


def batch():
    rng = np.random.default_rng(0)
    text = np.zeros((ROWS, LENGTH), np.int32)
    for row in text:  # of every length, so that the parts hold different numbers of tokens
        words = rng.integers(1, LENGTH - 3, endpoint=True)
        row[: words + 3] = [1, 5, *rng.integers(7, VOCABULARY, words), 2]
    image = rng.integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8)
    return {"image": jnp.asarray(image), "text": jnp.asarray(text)}


def compute(task, *, parts, mesh):
    module = task.init(jax.random.key(0))
    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))
    found = gradients(task, graph_of(task), make_mesh(mesh), parts=parts)
    return jax.jit(found)(params, None, batch(), jax.random.key(1))


@pytest.fixture(scope="module", params=[coca, clip], ids=["coca", "clip"])
def whole(request):
    task = request.param()
    return task, compute(task, parts=1, mesh=MeshConfig(data=1))


@pytest.mark.parametrize(
    ("parts", "mesh"),
    [
        (2, MeshConfig(data=1)),
        pytest.param(12, MeshConfig(data=1), marks=pytest.mark.slow),
        pytest.param(3, MeshConfig(data=4), marks=pytest.mark.slow),
        (3, MeshConfig(data=2, fsdp=2, tensor=2)),
    ],
    ids=str,
)
def test_parts_give_the_whole_batchs_loss_metrics_and_gradients(whole, parts, mesh):
    task, (loss, metrics, grads) = whole
    in_parts = compute(task, parts=parts, mesh=mesh)
    np.testing.assert_allclose(in_parts[0], loss, rtol=1e-5)
    assert in_parts[1].keys() == metrics.keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(in_parts[1][name], value, rtol=1e-5, err_msg=name)
    norm = np.sqrt(sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(grads)))
    apart = jax.tree.map(lambda a, b: float(jnp.sum((a - b) ** 2)), in_parts[2], grads)
    assert np.sqrt(sum(jax.tree.leaves(apart))) <= 1e-5 * norm


def test_the_mean_of_the_parts_losses_would_be_another_loss(whole):
    """What accumulation is without the second pass: fewer negatives for every row."""
    task, (loss, _, _) = whole
    rows = batch()
    module = task.init(jax.random.key(0))
    halves = [jax.tree.map(lambda x, h=half: x[h::2], rows) for half in (0, 1)]
    mesh = make_mesh(MeshConfig(data=1))
    parts = [task.loss(module, half, jax.random.key(1), mesh)[0] for half in halves]
    assert np.mean(parts) < loss - 0.1
