"""The Prompt-CoCa task on a real model: its weights, its rules over a mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.data.config import DataConfig
from kmm_jax.errors import ConfigError
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training.sharding import MeshConfig, make_mesh
from kmm_jax.training.state import graph_of
from tests.tasks.test_clip import TASK as CLIP_TASK
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


def questions():
    """A batch of which only the last three tokens of each text are an answer."""
    target = np.zeros((ROWS, LENGTH), bool)
    target[:, -3:] = True
    return batch() | {"target": target}


def on_this_device(task, rows):
    def loss():
        module = task.init(jax.random.key(0))
        mesh = make_mesh(MeshConfig(data=1))
        return task.loss(module, jax.tree.map(jnp.asarray, rows), jax.random.key(1), mesh)

    return jax.jit(loss)()


def test_a_loss_of_weight_0_is_left_out_and_the_other_stays():
    alone = dataclasses.replace(TASK, contrastive_weight=0.0)
    loss, metrics = on_this_device(alone, batch())
    _, both = on_this_device(TASK, batch())
    assert "contrastive_loss" not in metrics
    np.testing.assert_allclose(loss, 2 * both["caption_loss"], rtol=1e-6)
    np.testing.assert_allclose(metrics["caption_loss"], both["caption_loss"], rtol=1e-6)


def test_the_loss_of_a_question_is_that_of_its_answer_alone():
    alone = dataclasses.replace(TASK, contrastive_weight=0.0, caption_weight=1.0)
    loss, _ = on_this_device(alone, questions())

    @jax.jit
    def log_p():
        module = alone.init(jax.random.key(0))
        return jax.nn.log_softmax(module(batch()["image"], jnp.asarray(batch()["text"]))[2])

    log_p_BTV = np.asarray(log_p())
    rows, text = np.arange(ROWS), batch()["text"]
    said = [log_p_BTV[rows, t - 1, text[:, t]] for t in range(LENGTH - 3, LENGTH)]
    np.testing.assert_allclose(loss, -np.mean(said), rtol=1e-5)


def test_questions_in_parts_give_the_update_of_the_whole_batch():
    alone = dataclasses.replace(TASK, contrastive_weight=0.0)
    rows = questions()
    rows["target"][:5, :4] = True  # answers of unequal lengths
    whole = two_updates(alone, rows, MeshConfig(data=1))
    assert_equal(two_updates(alone, rows, MeshConfig(data=1), accumulate=4), whole)


def data(**more):
    return DataConfig(sources=(), image_size=16, text_length=LENGTH, **more)


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        (TASK, data(fields=(("questions", 1.0),)), "contrastive_weight=0"),
        (
            CLIP_TASK,
            data(fields=(("title", 1.0), ("questions", 0.5))),
            "a question describes no image",
        ),
        (
            dataclasses.replace(TASK, contrastive_weight=0.0, caption_weight=0.0),
            data(),
            "both 0",
        ),
        (dataclasses.replace(TASK, contrastive_weight=-1.0), data(), "0 or more, got -1"),
        (dataclasses.replace(TASK, caption_weight=float("nan")), data(), "0 or more, got nan"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_compiling(task, given, said):
    with pytest.raises(ConfigError, match=said):
        task.check(data=given, vocabulary=64)
