"""The SLIP task: both losses, a batch over a mesh and in parts, and a run that is then used."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import kmm_jax
from kmm_jax.cli import main
from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig
from kmm_jax.errors import ConfigError
from kmm_jax.inference.initial import initial_params
from kmm_jax.inference.loading import read
from kmm_jax.losses.simclr import simclr_loss
from kmm_jax.models.clip.config import CLIPConfig
from kmm_jax.models.flops import forward_flops, forward_flops_total
from kmm_jax.models.slip.config import SLIPConfig, slip_tiny
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.tasks.slip import SLIPTask
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.metrics import read_records
from kmm_jax.training.sharding import MeshConfig, make_mesh
from kmm_jax.training.state import graph_of
from tests.tasks.updates import MESHES, OVER_MESHES, assert_equal, two_updates
from tests.tiny_shop import SIZES, picture, write

ROWS, LENGTH, WIDTH = 16, 8, 64


def tiny_slip():
    config = slip_tiny(vocabulary=64, image_size=16)
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, width=WIDTH, depth=2, hidden=4 * WIDTH),
        text=dataclasses.replace(
            config.text, width=WIDTH, depth=2, hidden=4 * WIDTH, length=LENGTH
        ),
        embedding=32,
        head=dataclasses.replace(config.head, hidden=128, embedding=32),
    )


TASK = SLIPTask(model=tiny_slip())


@functools.cache
def batch():
    rng = np.random.default_rng(0)
    text = rng.integers(7, 64, (ROWS, LENGTH)).astype(np.int32)
    text[:, 0], text[:, -1] = 1, 2
    return {
        "image": rng.integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8),
        "views": rng.integers(0, 256, (ROWS, 2, 16, 16, 3), dtype=np.uint8),
        "text": text,
    }


@pytest.fixture(scope="module")
def module():
    return TASK.init(jax.random.key(0))


MESH = functools.cache(lambda: make_mesh(MeshConfig(data=1)))


def test_the_loss_is_clips_and_the_weighted_one_between_views():
    weighed = dataclasses.replace(TASK, ssl_weight=0.25)

    def losses():
        module = TASK.init(jax.random.key(0))
        rows = jax.tree.map(jnp.asarray, batch())
        heads = [module.view_head(module.clip.vision(rows["views"][:, v])[1]) for v in range(2)]
        clip = CLIPTask(model=TASK.model.clip)
        return (
            TASK.loss(module, rows, jax.random.key(1), MESH()),
            weighed.loss(module, rows, jax.random.key(1), MESH())[0],
            clip.loss(module.clip, rows, jax.random.key(1), MESH()),
            simclr_loss(*heads, temperature=0.1)[0],
        )

    (loss, metrics), quarter, (clip, clip_metrics), between_views = jax.jit(losses)()
    np.testing.assert_allclose(metrics["contrastive_loss"], clip, rtol=1e-5)
    np.testing.assert_allclose(metrics["ssl_loss"], between_views, rtol=1e-5)
    np.testing.assert_allclose(loss, clip + between_views, rtol=1e-5)
    assert clip_metrics.keys() < metrics.keys()
    np.testing.assert_allclose(quarter, clip + 0.25 * between_views, rtol=1e-5)


def test_the_loss_between_views_reaches_the_tower_and_neither_texts_nor_projections(module):
    graphdef, state = nnx.split(module)

    def ssl_loss(params):
        rows = jax.tree.map(jnp.asarray, batch())
        return TASK.loss(nnx.merge(graphdef, params), rows, jax.random.key(1), MESH())[1][
            "ssl_loss"
        ]

    gradients = nnx.to_pure_dict(jax.jit(jax.grad(ssl_loss))(nnx.as_pure(state)))

    def reached(tree):
        return [float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(tree)]

    clip = gradients["clip"]
    assert any(reached(clip["vision"])) and any(reached(gradients["view_head"]))
    unreached = [clip[name] for name in ("text", "text_projection", "image_projection")]
    assert not any(reached([*unreached, clip["log_scale"]]))


@pytest.fixture(scope="module")
def on_one():
    return two_updates(TASK, batch(), MeshConfig(data=1))


@OVER_MESHES
def test_two_updates_over_a_mesh_equal_those_of_one_device(on_one, mesh):
    """Batch norm and both losses are over the global batch."""
    assert_equal(two_updates(TASK, batch(), MESHES[mesh]), on_one)


@pytest.mark.parametrize(
    "config",
    [MeshConfig(data=1), pytest.param(MESHES["2 x 2 x 2"], marks=pytest.mark.slow)],
    ids=["one", "eight"],
)
def test_two_updates_in_two_parts_equal_those_of_the_whole_batch(on_one, config):
    assert_equal(two_updates(TASK, batch(), config, accumulate=2), on_one)


def test_flops_count_two_more_pictures_and_the_head():
    parts = forward_flops(TASK.model)
    tower = forward_flops(TASK.model.clip)["image"] - 2 * WIDTH * 32
    head = 2 * (WIDTH * 128 + 128 * 128 + 128 * 32)
    assert parts["views"] == 2 * (tower + head)
    assert TASK.flops_per_example() == forward_flops_total(TASK.model.clip) + parts["views"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_data_without_two_views_is_refused(count):
    data = DataConfig(
        sources=(), image_size=16, text_length=LENGTH, views=(AugmentConfig(),) * count
    )
    with pytest.raises(ConfigError, match=rf"2 random views .* data\.views has {count}"):
        TASK.check(data=data, vocabulary=64)
    TASK.check(data=dataclasses.replace(data, views=(AugmentConfig(),) * 2), vocabulary=64)


@pytest.mark.parametrize("wrong", [{"ssl_weight": -1.0}, {"ssl_temperature": 0.0}], ids=str)
def test_a_weight_or_temperature_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match=rf"task\.{next(iter(wrong))}"):
        SLIPTask(model=TASK.model, **wrong)


def test_the_paper_recipes_differ_in_what_the_paper_says():
    slip, clip = load_experiment("slip/b16"), load_experiment("clip/b16")
    assert slip.task.model.clip == clip.task.model
    for run, peak, decay in ((slip, 3e-3, 0.1), (clip, 5e-4, 0.5)):
        optimizer = run.optimizer
        assert (optimizer.learning_rate, optimizer.weight_decay) == (peak, decay)
        np.testing.assert_allclose(optimizer.final_fraction * peak, 1e-5)
        assert (optimizer.b1, optimizer.b2, optimizer.epsilon) == (0.9, 0.98, 1e-8)
        assert optimizer.clip_norm is None
        assert (run.global_batch_size, run.duration) == (4096, "40 epochs")
    assert dataclasses.replace(slip.data, views=()) == clip.data


TINY = [
    *(size for size in SIZES if "pooler" not in size and "duration" not in size),
    "task.model.vision.stem=linear",
    "task.model.head.hidden=64",
    "task.model.head.embedding=16",
    "task.ssl_weight=0.5",
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slip")
    data = write(folder / "data")
    arguments = [
        "slip/shop", "--run-dir", str(folder / "run"),
        f"data.sources.0.url={data / 'train-*.tar'}", f"tokenizer={data / 'tokenizer'}",
        *TINY, "duration=30 steps", "log_every=1 steps", "optimizer.learning_rate=0.003",
    ]  # fmt: skip
    assert main(["train", *arguments]) == 0
    return folder / "run"


def test_both_losses_fall_in_a_short_run(run_dir):
    records = list(read_records(run_dir / "metrics.jsonl"))
    losses = {
        name: [one[name] for one in records if name in one]
        for name in ("loss", "contrastive_loss", "ssl_loss")
    }
    assert all(len(values) == 30 for values in losses.values())
    assert np.mean(losses["loss"][-5:]) < np.mean(losses["loss"][:5]) - 0.1
    assert np.mean(losses["ssl_loss"][-5:]) < np.mean(losses["ssl_loss"][:5]) - 0.1
    first = {name: values[0] for name, values in losses.items()}
    np.testing.assert_allclose(
        first["loss"], first["contrastive_loss"] + 0.5 * first["ssl_loss"], rtol=1e-5
    )


def test_a_trained_slip_is_used_as_the_clip_in_it(run_dir):
    model = kmm_jax.load(run_dir)
    assert isinstance(model.config, CLIPConfig)
    assert set(model.params) == {
        "vision", "text", "image_projection", "text_projection", "log_scale"
    }  # fmt: skip
    trained = read(run_dir)
    assert isinstance(trained.config, SLIPConfig)
    slip = nnx.merge(
        graph_of(SLIPTask(model=trained.config)), jax.tree.map(jnp.asarray, trained.params)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    functions = SLIPTask(model=trained.config).functions()
    np.testing.assert_allclose(
        model.embed_image(list(pixels)),
        jax.jit(functions["encode_image"])(slip, {"image": jnp.asarray(pixels)}),
        atol=1e-5,
    )
    texts = ["빨간 셔츠", "파란 바지"]
    ids = model.tokenizer.sequences(texts, None, model.text_length)
    np.testing.assert_allclose(
        model.embed_text(texts), jax.jit(functions["encode_text"])(slip, {"text": ids}), atol=1e-5
    )
    assert model.embed_image([picture()]).shape == (1, 32)


def test_it_is_evaluated_and_exported_as_a_clip(run_dir, tmp_path, capsys):
    from tools.export_checkpoint import main as export

    data = run_dir.parent / "data" / "train-*.tar"
    assert main(["evaluate", str(run_dir), str(data), "--tasks", "retrieval", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"][0]["task"] == "retrieval"
    assert export([str(run_dir), "--output", str(tmp_path / "exported")]) == 0
    exported = kmm_jax.load(tmp_path / "exported")
    assert exported.hash == kmm_jax.load(run_dir).hash
    assert isinstance(exported.config, CLIPConfig)


def test_another_slip_begins_from_it_on_larger_pictures(run_dir):
    trained = read(run_dir)
    vision = dataclasses.replace(trained.config.vision, image_size=32)
    params = initial_params(
        run_dir,
        dataclasses.replace(trained.config, vision=vision),
        tokenizer=run_dir / "tokenizer",
    )
    assert params["clip"]["vision"]["positions"].shape[0] == vision.patches + 1
    for ours, theirs in zip(
        jax.tree.leaves(params["view_head"]),
        jax.tree.leaves(trained.params["view_head"]),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
