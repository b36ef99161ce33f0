"""Learning rates by depth against a model whose layers are parameters of their own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kmm_jax.cli import main
from kmm_jax.errors import ConfigError
from kmm_jax.training.duration import Scale
from kmm_jax.training.loop import train
from kmm_jax.training.optimizer import Adafactor, AdamW, build
from kmm_jax.training.parameter_names import kept, named
from kmm_jax.training.sharding import MeshConfig
from tests.training import toy
from tests.training.test_configuration import CONFIG
from tests.training.test_freeze import tiny_clip

SCALE = Scale(global_batch_size=16, examples_per_epoch=16, total_steps=100)
DECAY, LAYERS, WIDTH, STEPS = 0.7, 3, 4, 4
ADAMW = AdamW(learning_rate=0.1, warmup="2", weight_decay=0.3, clip_norm=0.5)


def stacked():
    """A tower of images with three layers, one of texts with one, and a head."""
    rng = np.random.default_rng(0)

    def tower(layers):
        return {
            "positions": rng.normal(size=(5, WIDTH)),
            "blocks": {
                "layers": {
                    "up": {
                        "kernel": rng.normal(size=(layers, WIDTH, WIDTH)),
                        "bias": rng.normal(size=(layers, WIDTH)),
                    }
                }
            },
            "norm": {"scale": rng.normal(size=WIDTH)},
        }

    params = {"vision": tower(LAYERS), "text": tower(1), "head": {"kernel": np.ones((WIDTH, 2))}}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def pull(name, x):
    """A gradient that differs between parameters and between a stack's layers."""
    return jnp.sin(3 * x) + 0.1 * (len(name) % 7)


def unstacked_reference(params, config):
    """Every layer a leaf of its own, each with an optimizer whose learning rate is its own."""
    leaves = {}
    for name, leaf in named(params).items():
        if "/layers/" in name:
            leaves |= {(name, layer): leaf[layer] for layer in range(leaf.shape[0])}
        else:
            leaves[name, None] = leaf
    depth = {"vision": LAYERS, "text": 1}

    def rate(name, layer):
        tower = name.split("/")[0]
        if layer is not None:
            return DECAY ** (depth[tower] - layer)  # layers counted from 0
        return DECAY ** (depth[tower] + 1) if name.endswith("positions") else 1.0

    plain = dataclasses.replace(config, layer_decay=None, clip_norm=None)
    alone = {
        key: build(
            dataclasses.replace(plain, learning_rate=config.learning_rate * rate(*key)), SCALE
        )
        for key in leaves
    }

    def as_tree(key, leaf):
        # The name alone tells the optimizer that a bias of two dimensions is none to decay.
        return {"bias" if key[0].endswith("bias") else "kernel": leaf}

    states = {key: alone[key].init(as_tree(key, leaf)) for key, leaf in leaves.items()}
    for _ in range(STEPS):
        grads = {key: pull(key[0], leaf) for key, leaf in leaves.items()}
        norm = optax.global_norm(list(grads.values()))
        for key, leaf in leaves.items():
            clipped = grads[key] * jnp.minimum(1.0, config.clip_norm / norm)
            change, states[key] = alone[key].update(
                as_tree(key, clipped), states[key], as_tree(key, leaf)
            )
            leaves[key] = leaf + jax.tree.leaves(change)[0]
    return leaves


def decayed(params, config):
    transformation = build(config, SCALE, params)
    state = transformation.init(params)
    for _ in range(STEPS):
        grads = {name: pull(name, leaf) for name, leaf in named(params).items()}
        grads = jax.tree.unflatten(jax.tree.structure(params), list(grads.values()))
        changes, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, changes)
    return params


def test_each_layer_learns_at_its_own_rate_as_if_it_were_no_slice_of_a_stack():
    config = dataclasses.replace(ADAMW, layer_decay=DECAY)
    reference = unstacked_reference(stacked(), config)
    found = named(decayed(stacked(), config))
    for (name, layer), value in reference.items():
        leaf = found[name] if layer is None else found[name][layer]
        np.testing.assert_allclose(leaf, value, rtol=2e-5, atol=1e-6, err_msg=f"{name} {layer}")


def test_a_share_of_one_changes_nothing_and_adafactor_has_it_too():
    for config in (ADAMW, Adafactor(learning_rate=0.1, momentum=None)):
        plain = decayed(stacked(), config)
        same = decayed(stacked(), dataclasses.replace(config, layer_decay=1.0))
        jax.tree.map(np.testing.assert_array_equal, same, plain)
        slower = decayed(stacked(), dataclasses.replace(config, layer_decay=0.5))
        moved = abs(named(slower)["vision/positions"] - named(stacked())["vision/positions"])
        full = abs(named(plain)["vision/positions"] - named(stacked())["vision/positions"])
        assert moved.max() < 0.2 * full.max()


def test_frozen_layers_count_in_the_depth_of_their_tower():
    params = stacked()
    config = dataclasses.replace(ADAMW, layer_decay=DECAY, clip_norm=None, weight_decay=0.0)
    transformation = build(config, SCALE, params)
    part = kept(params, {"vision/positions"})
    ones = jax.tree.map(jnp.ones_like, part)
    changes, _ = transformation.update(ones, transformation.init(part), part)
    first_rate = 0.1 / 2  # of a warm-up of two steps
    np.testing.assert_allclose(
        named(changes)["vision/positions"], -first_rate * DECAY ** (LAYERS + 1), rtol=1e-5
    )


class ClipLoader(toy.ToyLoader):
    def batches(self, start_step=0):
        step = start_step
        while True:
            rng = np.random.default_rng(step)
            text = np.tile(np.asarray([1, 0, 0, 2, 0, 0, 0, 0], np.int32), (16, 1))
            text[:, 1:3] = rng.integers(7, 50, (16, 2))
            yield {
                "image": rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8),
                "text": text,
                "valid": np.ones(16, bool),
            }
            step += 1


def clip_experiment(**changes):
    base = toy.experiment()
    fields = {
        "task": tiny_clip(),
        "data": dataclasses.replace(base.data, image_size=16),
        # With Adam's usual epsilon a gradient that is rounding alone makes whole steps.
        "optimizer": AdamW(learning_rate=1e-3, warmup="1", layer_decay=0.5, epsilon=1e-3),
        "duration": "4",
    }
    return dataclasses.replace(base, **fields | changes)


@pytest.mark.slow
def test_a_run_over_eight_devices_interrupted_ends_as_one_on_one_device(tmp_path):
    mesh = MeshConfig(data=2, fsdp=2, tensor=2, fsdp_min_size=1)
    one = train(clip_experiment(), tmp_path / "one", loader=ClipLoader()).state.params
    split = clip_experiment(mesh=mesh, accumulate=2)
    train(split, tmp_path / "split", loader=ClipLoader(), stop_after=2)
    again = train(split, tmp_path / "split", loader=ClipLoader()).state.params
    for name, value in named(jax.device_get(again)).items():
        np.testing.assert_allclose(value, named(one)[name], atol=2e-5, err_msg=name)


def test_a_model_without_layers_is_refused(tmp_path):
    experiment = toy.experiment(optimizer=AdamW(layer_decay=0.75))
    with pytest.raises(ConfigError, match="no stacks of layers"):
        train(experiment, tmp_path, loader=toy.ToyLoader())


@pytest.mark.parametrize("decay", [0.0, -1.0, 1.5])
def test_a_share_that_is_none_is_refused(decay):
    with pytest.raises(ConfigError, match="layer_decay"):
        AdamW(layer_decay=decay)


def test_the_option_is_the_fields(tmp_path, monkeypatch, capsys):
    (tmp_path / "shop.py").write_text(CONFIG)
    monkeypatch.setattr("kmm_jax.data.sources.open_source", lambda url: range(640))
    assert main(["train", str(tmp_path / "shop.py"), "--lr-decay", "0.75", "--dry-run"]) == 0
    assert "optimizer.layer_decay = 0.75" in capsys.readouterr().out
    assert main(["train", str(tmp_path / "shop.py"), "--lr-decay", "7", "--dry-run"]) == 2
    assert "layer_decay must be above 0" in capsys.readouterr().err
