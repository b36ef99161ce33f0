"""Frozen parameters: what stays, what is spared, and that the rest trains as it would alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from kmm_jax.cli import main
from kmm_jax.errors import ConfigError
from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training import optimizer, setup
from kmm_jax.training.accumulation import gradients
from kmm_jax.training.loop import train
from kmm_jax.training.metrics import read_records
from kmm_jax.training.optimizer import Adafactor, AdamW
from kmm_jax.training.parameter_names import chosen, kept, named, overlaid
from kmm_jax.training.sharding import MeshConfig, make_mesh
from kmm_jax.training.state import graph_of
from kmm_jax.training.update import make_update
from tests.training import toy
from tests.training.test_accumulation import batch
from tests.training.test_configuration import CONFIG
from tests.training.test_teacher import experiment as taught

UP = "up/.*"


def tiny_clip():
    model = clip_tiny(vocabulary=50, image_size=16)
    return CLIPTask(
        model=dataclasses.replace(
            model,
            vision=dataclasses.replace(model.vision, depth=1, stem="linear"),
            text=dataclasses.replace(model.text, depth=1, length=8),
        )
    )


def fresh(task=None):
    module = (task or toy.ToyTask()).init(jax.random.fold_in(jax.random.key(0), 0))
    return jax.device_get(nnx.to_pure_dict(nnx.as_pure(nnx.state(module))))


def run(folder, **changes):
    return train(toy.experiment(**changes), folder, loader=toy.ToyLoader())


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))


@pytest.mark.parametrize(
    "config", [AdamW(weight_decay=0.5), Adafactor(weight_decay=0.5, first_moment_dtype="float32")]
)
def test_the_rest_trains_as_if_the_frozen_part_were_constants(tmp_path, config):
    config = dataclasses.replace(config, learning_rate=1e-2, clip_norm=0.1)
    result = run(tmp_path, freeze=UP, optimizer=config, duration="5")
    whole, graph = fresh(), graph_of(toy.ToyTask())
    scale = setup.prepare(
        toy.experiment(duration="5"),
        make_mesh(MeshConfig(data=1)),
        examples_per_epoch=160,
        vocabulary=None,
    ).scale
    alone = optimizer.build(config, scale)
    part = {"down": whole["down"]}
    moments = alone.init(part)

    def loss(part, rows):
        module = nnx.merge(graph, {"up": whole["up"], **part})
        return jnp.mean((module(rows["x"]) - rows["y"]) ** 2)

    norms = []
    for step in range(5):
        found = jax.grad(loss)(part, toy.rows(step, 16))
        norms.append(optax.global_norm(found))
        changes, moments = alone.update(found, moments, part)
        part = optax.apply_updates(part, changes)
    equal(result.state.params["up"], whole["up"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        result.state.params["down"],
        part["down"],
    )
    told = [record["gradient_norm"] for record in read_records(tmp_path / "metrics.jsonl")]
    np.testing.assert_allclose(told, norms, rtol=1e-4)
    # Moments are of what is trained alone, and as if that were all there is.
    shapes = [leaf.shape for leaf in jax.tree.leaves(result.state.opt_state)]
    assert shapes == [jnp.shape(leaf) for leaf in jax.tree.leaves(moments)]


def compiled(function, *inputs):
    options = {"xla_backend_optimization_level": 0}  # what runs on the host matters not
    return function.lower(*inputs).compile(compiler_options=options)


def operations(program):
    """XLA's own count."""
    return program.cost_analysis()["flops"]


@pytest.mark.parametrize(("accumulate", "passes"), [(1, 2), (2, 3)])
def test_a_frozen_tower_has_no_backward_pass(accumulate, passes):
    """Nor is its forward pass made again where the batch is computed in parts."""
    task, mesh = tiny_clip(), make_mesh(MeshConfig(data=1))

    def step(freeze):
        experiment = toy.experiment(task=task, freeze=freeze, accumulate=accumulate)
        data = dataclasses.replace(experiment.data, image_size=16)
        experiment = dataclasses.replace(experiment, global_batch_size=24, data=data)
        made = setup.prepare(experiment, mesh, examples_per_epoch=160, vocabulary=None)
        update = make_update(
            task,
            made.graphdef,
            made.optimizer,
            made.learning_rate,
            mesh,
            made.shardings,
            accumulate=accumulate,
            trained=made.trained,
        )
        return compiled(update, made.abstract, batch())

    whole, frozen = step(None), step("(image|image_projection)/.*")
    graph, params, rows = graph_of(task), fresh(task), batch()["image"][: 24 // accumulate]
    forward = jax.jit(lambda params, rows: nnx.merge(graph, params).encode_image(rows))
    spared = operations(whole) - operations(frozen)
    # A backward pass is two forward passes' worth, and XLA counts a loop's turn once. That of the
    # pixels is never asked for, and the optimizer's operations on the tower are spared besides.
    ratio = spared / operations(compiled(forward, params, rows))
    assert passes - 0.2 < ratio < passes + 0.5

    used, all_used = (made.memory_analysis().temp_size_in_bytes for made in (frozen, whole))
    assert used < 0.8 * all_used, "the frozen tower's activations are kept"


@pytest.mark.parametrize("mesh", [MeshConfig(data=1), MeshConfig(data=2, fsdp=2, tensor=2)])
def test_a_batch_in_parts_gives_the_same_gradients_of_what_is_trained(mesh):
    task = tiny_clip()
    params = fresh(task)
    names = named(params).keys()
    part = kept(params, names - chosen("image/.*|log_scale", names, setting="freeze"))

    def computed(parts, mesh, given, model):
        found = gradients(task, graph_of(task), make_mesh(mesh), parts=parts, model=model)
        return jax.jit(found)(given, None, batch(), jax.random.key(1))[2]

    grads = computed(3, mesh, part, lambda part: overlaid(params, part))
    expected = kept(computed(1, MeshConfig(data=1), params, lambda p: p), named(part).keys())
    assert named(grads).keys() == named(expected).keys() < names
    for name, value in named(expected).items():
        np.testing.assert_allclose(named(grads)[name], value, atol=1e-5, err_msg=name)


def test_the_losses_do_not_depend_on_the_mesh(tmp_path):
    losses = []
    meshes = MeshConfig(data=1), MeshConfig(data=2, fsdp=2, tensor=2, fsdp_min_size=1)
    for number, mesh in enumerate(meshes):
        result = run(tmp_path / str(number), freeze="down/.*", mesh=mesh, duration="6")
        losses.append([r["loss"] for r in read_records(tmp_path / str(number) / "metrics.jsonl")])
        equal(result.state.params["down"], fresh()["down"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-5)
    (adam,) = [part for part in result.state.opt_state if hasattr(part, "mu")]
    assert named(adam.mu).keys() == {"up/kernel", "up/bias"}
    kernel = result.state.params["up"]["kernel"]
    assert adam.mu["up"]["kernel"].sharding == kernel.sharding


def test_after_an_interruption_it_goes_on_to_the_very_same_numbers(tmp_path):
    changes = {"freeze": UP, "ema": 0.9, "accumulate": 2}
    whole = run(tmp_path / "whole", **changes)
    experiment = toy.experiment(**changes)
    train(experiment, tmp_path / "run", loader=toy.ToyLoader(), stop_after=5)
    again = run(tmp_path / "run", **changes)
    for part in ("params", "ema", "opt_state"):
        equal(getattr(whole.state, part), getattr(again.state, part))
    equal(whole.state.ema["up"], fresh()["up"])
    with pytest.raises(ConfigError, match=r"freeze: 'up/\.\*' -> None"):
        run(tmp_path / "run", **changes | {"freeze": None, "duration": "20"})


def test_running_statistics_of_a_frozen_part_stay(tmp_path):
    moved = train(taught(duration="3"), tmp_path / "moved", loader=toy.ToyLoader()).state
    stayed = train(taught(duration="3", freeze="seen"), tmp_path / "s", loader=toy.ToyLoader())
    assert float(moved.params["seen"]) == 3 and float(moved.ema["seen"]) == 30
    assert float(stayed.state.params["seen"]) == 0 == float(stayed.state.ema["seen"])
    np.testing.assert_array_equal(stayed.state.params["up"]["kernel"], moved.params["up"]["kernel"])


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("up/kernle", r"names no parameter; did you mean 'up/kernel'\?"),
        ("vision/.*", "begin with one of: down, up"),
        ("up", "names no parameter"),
        (".*", "names every parameter"),
        ("(", "no regex"),
    ],
)
def test_a_regex_that_cannot_be_meant_is_refused(tmp_path, freeze, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, freeze=freeze)
    assert not (tmp_path / "config.json").exists()


def test_the_image_tower_may_be_called_image():
    names = {"vision/positions", "image_projection/kernel", "text/positions"}
    assert chosen("image/.*", names, setting="") == {"vision/positions"}
    assert chosen("(image|text)/.*", names, setting="") == names - {"image_projection/kernel"}
    assert chosen("(?!image/).*", names, setting="") == names - {"vision/positions"}
    assert chosen("(?!vision/).*", names, setting="") == names - {"vision/positions"}
    assert chosen("image_projection/.*", names, setting="") == {"image_projection/kernel"}
    assert chosen("clip/image/.*", {"clip/vision/a", "clip/text/a"}, setting="") == {
        "clip/vision/a"
    }


def test_a_dry_run_tells_what_is_trained_and_frozen(tmp_path, monkeypatch, capsys):
    (tmp_path / "shop.py").write_text(CONFIG)
    monkeypatch.setattr("kmm_jax.data.sources.open_source", lambda url: range(640))
    config = ["train", str(tmp_path / "shop.py"), "--dry-run"]
    assert main(config) == 0
    whole = capsys.readouterr().out
    assert main([*config, "--freeze", "image/.*"]) == 0
    frozen = capsys.readouterr().out
    assert "freeze = 'image/.*'" in frozen and "are trained" not in whole

    def optimizer_megabytes(text):
        return float(text.split(" optimizer")[0].split()[-1])

    assert " are trained (" in frozen
    assert optimizer_megabytes(frozen) < 0.8 * optimizer_megabytes(whole)
