"""The objectives of slides 3.3: identities, the teacher, one device against many, the cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.errors import ConfigError
from kmm_jax.models.flops import oner_step_flops
from kmm_jax.models.oner.config import MaskingConfig, oner_tiny
from kmm_jax.models.oner.modeling import Stream
from kmm_jax.models.summary import parameters
from kmm_jax.planning.cost import cost
from kmm_jax.tasks.oner import OneRTask
from kmm_jax.training.accumulation import gradients
from kmm_jax.training.sharding import MeshConfig, make_mesh
from kmm_jax.training.state import graph_of
from kmm_jax.training.task import STATISTICS
from tests.tasks.updates import MESHES, assert_equal, two_updates

ROWS, LENGTH, WIDTH = 16, 8, 64


def tiny(**head):
    config = oner_tiny(vocabulary=64, image_size=16, text_length=LENGTH)
    tower = dataclasses.replace(config.tower, width=WIDTH, depth=2, hidden=2 * WIDTH)
    return dataclasses.replace(
        config,
        tower=tower,
        head=dataclasses.replace(config.head, hidden=32, embedding=16, **head),
    )


ROWS_OF_THE_TABLE = {
    "itc": OneRTask(model=tiny()),
    "xmc": OneRTask(model=tiny(), xmc=1.0),
    "cic": OneRTask(model=tiny(), xmc=1.0, cic=1.0),
    "cmc": OneRTask(model=tiny(), cmc=1.0),
}


def batch():
    rng = np.random.default_rng(0)
    text = rng.integers(7, 64, (ROWS, LENGTH)).astype(np.int32)
    text[:, 0], text[:, 5], text[:, 6:] = 1, 2, 0
    image = rng.integers(0, 256, (2, ROWS, 16, 16, 3), dtype=np.uint8)
    return {"image": image[0], "text": text, "views": image[1][:, None]}


def bound(task, seed=1):
    """The task with a teacher of its own."""
    return task.taught_by(task.init(jax.random.key(seed)))


def pure(task, seed):
    """A module's variables as the loop carries them."""
    return nnx.to_pure_dict(nnx.as_pure(nnx.state(task.init(jax.random.key(seed)))))


def loss(task, module, rows=None):
    """Of a whole batch; ``module`` is the student's."""
    return task.loss(module, rows or batch(), jax.random.key(0), make_mesh(MeshConfig(data=1)))


def loss_of_fresh(task, seed=0):
    """The loss and metrics of fresh networks, compiled as one."""

    def whole(student, teacher):
        graphdef = graph_of(task)
        taught = task.taught_by(nnx.merge(graphdef, teacher))
        return loss(taught, nnx.merge(graphdef, student))

    return jax.jit(whole)(pure(task, seed), pure(task, 1))


@pytest.mark.parametrize(
    ("row", "mesh"),
    [
        ("cmc", "2 x 2 x 2"),
        pytest.param("cic", "2 x 2 x 2", marks=pytest.mark.slow),
        pytest.param("cmc", "fsdp 8", marks=pytest.mark.slow),
    ],
)
def test_two_updates_over_a_mesh_equal_those_of_one_device(row, mesh):
    """Running statistics of student and teacher included: they are over the global batch."""
    task = ROWS_OF_THE_TABLE[row]
    on_one = two_updates(task, batch(), MeshConfig(data=1))
    assert_equal(two_updates(task, batch(), MESHES[mesh]), on_one)
    mean = on_one[0].params["head"]["projector"]["norms"][0]["mean"]
    assert np.abs(mean).max() > 0, "running statistics moved"


@pytest.mark.parametrize("row", ["itc", pytest.param("cic", marks=pytest.mark.slow)])
def test_parts_of_a_batch_give_the_whole_batchs_gradients(row):
    task = ROWS_OF_THE_TABLE[row]
    mesh = make_mesh(MeshConfig(data=1))

    whole, parts = (
        jax.jit(gradients(task, graph_of(task), mesh, parts=parts))(
            pure(task, 0),
            pure(task, 1),
            batch(),
            jax.random.key(0),
        )
        for parts in (1, 4)
    )
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4),
        whole,
        parts,
    )


def test_no_gradient_reaches_the_teacher():
    task = ROWS_OF_THE_TABLE["cic"]
    graphdef = graph_of(task)

    def by_teacher(teacher):
        module = task.init(jax.random.key(0))
        return loss(task.taught_by(nnx.merge(graphdef, teacher)), module)[0]

    for leaf in jax.tree.leaves(jax.jit(jax.grad(by_teacher))(pure(task, 1))):
        assert not np.any(leaf)


def test_every_gradient_the_student_gets_is_of_a_part_it_uses():
    """The predictor is the student's; running statistics get none."""
    task = ROWS_OF_THE_TABLE["cmc"]
    graphdef = graph_of(task)
    by_student = jax.grad(lambda state: loss(bound(task), nnx.merge(graphdef, state))[0])
    found = jax.jit(by_student)(pure(task, 0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        running = name.endswith(("mean", "variance"))
        assert np.any(leaf) != running, name


def test_every_row_of_one_head_has_the_same_parameters():
    counts = {parameters(task.init(jax.random.key(0))) for task in ROWS_OF_THE_TABLE.values()}
    assert len(counts) == 1


def test_itc_is_both_directions_of_moco_v3():
    """2 tau CE(pred(proj(F(I))) . proj'(F'(T)) / tau), and the other way round."""
    task = bound(ROWS_OF_THE_TABLE["itc"])
    student, teacher, rows = task.init(jax.random.key(0)), task.teacher, batch()

    def normal(x):
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    expected = 0.0
    ours = {
        "image": student.tower(student.image_sequence(rows["image"]))[:, 0],
        "text": student.tower(student.text_sequence(rows["text"]))[:, 0],
    }
    theirs = {
        "image": teacher.tower(teacher.image_sequence(rows["views"][:, 0]))[:, 0],
        "text": teacher.tower(teacher.text_sequence(rows["text"]))[:, 0],
    }
    for one, other in (("image", "text"), ("text", "image")):
        query = normal(student.project({one: ours[one]}, predict=True)[one])
        key = normal(teacher.project({other: theirs[other]}, predict=False)[other])
        logits = query @ key.T / 0.2
        expected += 2 * 0.2 * -jnp.mean(jnp.diag(jax.nn.log_softmax(logits)))
    np.testing.assert_allclose(loss_of_fresh(ROWS_OF_THE_TABLE["itc"])[0], expected, rtol=1e-5)


def test_where_image_and_text_are_one_cic_is_xmc():
    """F(I|T) = F(I|I) where T = I, so what is left is a mixture of two equal vectors."""
    task = bound(ROWS_OF_THE_TABLE["cic"])
    module = task.init(jax.random.key(0))
    vectors, sums = task.per_example(module, batch(), jax.random.key(0))
    stream = module.image_sequence(batch()["image"])
    found = module.contextual(stream, stream)
    vectors |= {
        "image": found.image[:, 0],
        "text": found.text[:, 0],
        "image_given_text": found.image_given_text[:, 0],
        "text_given_image": found.text_given_image[:, 0],
        "teacher_text": vectors["teacher_image"],
    }
    _, metrics = task.over_batch(module, vectors, sums, make_mesh(MeshConfig(data=1)))
    np.testing.assert_allclose(metrics["cic_loss"], metrics["xmc_loss"], rtol=1e-5)
    # And as keys and queries are of one kind, XMC is the contrast of an image with itself.
    assert metrics["xmc_loss"] < metrics["itc_loss"]


def test_where_image_and_text_are_one_cmc_attends_as_the_image_alone():
    """Every key but the one [CLS] is there twice: self-attention in which they weigh 2 to 1."""
    task = bound(ROWS_OF_THE_TABLE["cmc"])
    module = task.init(jax.random.key(0))
    one = module.image_sequence(batch()["image"])
    whole = Stream(one.x_BSD, jnp.ones(one.x_BSD.shape[:2], bool))
    both = module.tower(module.joined(one, whole))[:, 0]
    x = one.x_BSD
    weights = jnp.log(jnp.ones(x.shape[1]).at[1:].set(2.0))
    for layer in module.blocks.unstack():
        h = layer.attention_norm(x)
        heads = layer.attention.heads
        q, k, v = (
            each(h).reshape(*h.shape[:2], heads, -1)
            for each in (layer.attention.query, layer.attention.key, layer.attention.value)
        )
        scores = jnp.einsum("bthk,bshk->bhts", q, k) / np.sqrt(q.shape[-1]) + weights
        mixed = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(scores), v)
        x = x + layer.attention.out(mixed.reshape(*x.shape))
        x = x + layer.mlp(layer.mlp_norm(x))
    np.testing.assert_allclose(both, module.norm(x)[:, 0], atol=2e-5)


def test_the_teacher_sees_the_other_view():
    task = bound(ROWS_OF_THE_TABLE["itc"])
    module, rows = task.init(jax.random.key(0)), batch()
    with_view = task.per_example(module, rows, jax.random.key(0))[0]
    rows["image"] = rows.pop("views")[:, 0]
    without = task.per_example(module, rows, jax.random.key(0))[0]
    np.testing.assert_allclose(with_view["teacher_image"], without["teacher_image"], atol=1e-6)
    assert np.abs(with_view["image"] - without["image"]).max() > 0.01


def test_running_statistics_are_each_networks_own():
    moved = loss_of_fresh(ROWS_OF_THE_TABLE["itc"])[1][STATISTICS]
    student, teacher = (
        side["head"]["projector"]["norms"][0]["mean"] for side in (moved.student, moved.teacher)
    )
    assert np.any(student) and np.any(teacher) and not np.allclose(student, teacher)


def step_flops(task):
    """Multiplications and additions of the traced step, forward and back, an example."""
    graphdef, state = graph_of(task), jax.eval_shape(lambda: pure(task, 0))
    rows = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype)
        for name, value in batch().items()
        if name != "views"
    }

    def total(state, teacher, rows):
        taught = task.taught_by(nnx.merge(graphdef, teacher))
        student = nnx.merge(graphdef, state)
        vectors, _ = taught.per_example(student, rows, jax.random.key(0))
        ours = [x for name, x in vectors.items() if not name.startswith("teacher")]
        keys = taught.teacher.project(
            {name[8:]: x for name, x in vectors.items() if name.startswith("teacher")},
            predict=False,
        )
        queries = student.project({str(number): x for number, x in enumerate(ours)}, predict=True)
        outputs = [*queries.values(), *map(jax.lax.stop_gradient, keys.values())]
        return sum(jnp.sum(x) for x in outputs)

    traced = jax.make_jaxpr(jax.value_and_grad(total))(state, state, rows)
    return sum(op.flops * op.times for op in cost(traced.jaxpr).operations) / ROWS


@pytest.mark.parametrize("row", ["cmc", "cic"])
def test_a_step_costs_the_sum_of_the_encoder_passes_it_needs(row):
    """For CIC each stream's keys and values are computed once and used by both."""
    weights = {"cmc": {"cmc": 1.0}, "cic": {"cic": 1.0}}[row]
    config = tiny()
    tower = dataclasses.replace(config.tower, width=256, hidden=1024)
    task = OneRTask(
        model=dataclasses.replace(
            config, tower=tower, vision=dataclasses.replace(config.vision, stem="linear")
        ),
        **weights,
    )
    expected = oner_step_flops(
        task.model, alone=True, contextual=row == "cic", joined=row == "cmc", mixtures=0
    )
    assert step_flops(task) == pytest.approx(expected, rel=0.1)


def test_masked_modelling_adds_its_losses_and_leaves_the_teacher_whole():
    config = dataclasses.replace(tiny(), masking=MaskingConfig())
    value, metrics = loss_of_fresh(OneRTask(model=config, cmc=1.0))
    parts = ("itc_loss", "cmc_loss", "masked_pixels_loss", "masked_words_loss")
    np.testing.assert_allclose(value, sum(metrics[name] for name in parts), rtol=1e-5)
    assert all(metrics[name] > 0 for name in parts)


def test_the_temperature_can_be_learned():
    config = dataclasses.replace(tiny(), learned_temperature=True)
    _, metrics = loss_of_fresh(OneRTask(model=config))
    np.testing.assert_allclose(metrics["logit_scale"], 5.0, rtol=1e-5)


def data(**changes):
    return DataConfig(
        sources=(SourceConfig(url="x"),), image_size=16, text_length=LENGTH, **changes
    )


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ConfigError, match="two heads"):
        OneRTask(model=tiny(apart=True), cmc=1.0)
    with pytest.raises(ConfigError, match="0 or more"):
        OneRTask(model=tiny(), itc=0.0)
    views = (AugmentConfig(), AugmentConfig())
    with pytest.raises(ConfigError, match="one for its teacher"):
        ROWS_OF_THE_TABLE["itc"].check(data=data(views=views), vocabulary=None)
    ROWS_OF_THE_TABLE["itc"].check(data=data(), vocabulary=64)
