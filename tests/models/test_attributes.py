"""The attribute search model: a CLIP at first, then one that listens to a category."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models import registry
from kmm_jax.models.attributes.config import attributes_b16, attributes_over
from kmm_jax.models.attributes.modeling import Attributes
from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.models.flops import forward_flops
from kmm_jax.models.keys import Keys, abstract_module
from kmm_jax.models.summary import parameters, summarise

LENGTH, WIDTH = 8, 32


def tiny(**settings):
    clip = clip_tiny(vocabulary=64, image_size=16)
    clip = dataclasses.replace(
        clip,
        vision=dataclasses.replace(clip.vision, width=WIDTH, depth=1, hidden=2 * WIDTH),
        text=dataclasses.replace(clip.text, width=24, depth=1, hidden=48, length=LENGTH),
        embedding=16,
    )
    return attributes_over(clip, heads=4, **settings)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    ids = rng.integers(7, 64, (4, LENGTH)).astype(np.int32)
    ids[:, 0], ids[:, -1] = 1, 2
    return image, ids


@pytest.fixture(params=["attend", "concat"])
def module(request):
    return Attributes(tiny(fusion=request.param), rngs=Keys(0))


def test_it_begins_as_the_clip_of_its_towers(module, inputs):
    image, ids = inputs
    asked = np.ones(4, bool)
    found = module.encode_query(image, ids, asked)
    np.testing.assert_array_equal(found, module.clip.encode_image(image))
    np.testing.assert_array_equal(module.encode_text(ids), module.clip.encode_text(ids))


def test_only_the_rows_that_are_asked_listen_to_the_category(module, inputs):
    image, ids = inputs
    module.gate[...] = jnp.ones(WIDTH)
    asked = np.array([True, False, True, False])
    found = np.asarray(module.encode_query(image, ids, asked))
    alone = np.asarray(module.encode_image(image))
    np.testing.assert_array_equal(found[1::2], alone[1::2])
    assert np.abs(found[::2] - alone[::2]).max() > 1e-2
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    other = np.asarray(module.encode_query(image, np.roll(ids, 1, axis=0), asked))
    assert np.abs(other[::2] - found[::2]).max() > 1e-3


def test_the_gate_learns_from_the_first_step(module, inputs):
    image, ids = inputs
    graphdef, state = nnx.split(module)

    def towards(params):
        return nnx.merge(graphdef, params).encode_query(image, ids, np.ones(4, bool))[:, 0].sum()

    gradient = jax.jit(jax.grad(towards))(nnx.as_pure(state))
    assert float(jnp.abs(gradient["gate"]).max()) > 0


def test_a_heat_map_of_a_category_is_another(inputs):
    image, ids = inputs
    module = Attributes(tiny(), rngs=Keys(0))
    module.gate[...] = jnp.ones(WIDTH)
    plain = module.heat_map(image, ids)
    np.testing.assert_array_equal(plain, module.clip.heat_map(image, ids))
    asked = module.heat_map(image, ids, np.roll(ids, 1, axis=0))
    assert asked.shape == (4, 2, 2)
    assert np.isfinite(asked).all() and (np.asarray(asked) >= 0).all()


@pytest.mark.parametrize("fusion", ["attend", "concat"])
def test_json_brings_it_back(fusion):
    config = tiny(fusion=fusion)
    assert registry.from_json(registry.to_json(config)) == config


def test_wrong_settings_are_told():
    with pytest.raises(ValueError, match="attend or concat, not 'add'"):
        tiny(fusion="add")
    with pytest.raises(ValueError, match="heads=5 do not divide"):
        dataclasses.replace(tiny(), heads=5)


@pytest.mark.parametrize("fusion", ["attend", "concat"])
def test_flops_are_those_xla_counts(fusion, inputs):
    """Of the category's part alone: with it less without it, by the compiler's own count."""
    config = tiny(fusion=fusion)
    graphdef, state = nnx.split(Attributes(config, rngs=Keys(0)))
    image, ids = inputs

    def counted(apply):
        def run(params, image, ids):
            return apply(nnx.merge(graphdef, params), image, ids)

        cost = jax.jit(run).lower(nnx.as_pure(state), image, ids).cost_analysis()
        return cost["flops"] / len(image)

    asked = np.ones(4, bool)
    both = counted(lambda module, image, ids: module.encode_query(image, ids, asked))
    alone = counted(lambda module, image, ids: module.encode_image(image))
    # Softmax, norms and activations are in XLA's count and not in ours; a causal attention counts
    # half in ours.
    assert forward_flops(config)["category"] == pytest.approx(both - alone, rel=0.15)


def test_the_b16_is_a_clip_with_one_layer_more():
    config = attributes_b16()
    module = abstract_module(lambda rngs: Attributes(config, rngs=rngs))
    fusion = parameters(module) - parameters(module.clip)
    width = config.vision.width
    assert fusion == pytest.approx(12 * width**2 + 512 * width, rel=0.01)
    summary = summarise(config)
    assert summary["image"] + summary["text"] + 1 == parameters(module.clip)
