"""Counted FLOPs against XLA's own analysis of the compiled forward pass."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models import registry
from kmm_jax.models.flops import forward_flops_total
from kmm_jax.models.keys import abstract_module


def one_layer_a_stack(config):
    """XLA counts the body of a scan once, however many layers run through it."""
    names = ("depth", "unimodal_depth", "multimodal_depth")
    text = {name: 1 for name in names if hasattr(config.text, name)}
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, depth=1),
        text=dataclasses.replace(config.text, **text),
    )


@pytest.mark.parametrize("name", ["coca-tiny", "clip-tiny", "slip-tiny"])
def test_counted_flops_are_close_to_xlas(name):
    config = one_layer_a_stack(registry.preset(name, vocabulary=2000))
    graphdef, state = nnx.split(abstract_module(lambda rngs: registry.build(config, rngs=rngs)))

    def forward(parameters, image, ids):
        model = nnx.merge(graphdef, parameters)
        if name == "coca-tiny":
            return model(image, ids)
        vectors = model.encode_image(image), model.encode_text(ids)
        if name == "clip-tiny":
            return vectors
        features = model.view_features(jnp.stack([image, 255 - image], axis=1))
        return vectors, [model.view_head(features[:, view]) for view in range(2)]

    image = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.uint8)
    ids = jax.ShapeDtypeStruct((4, 32), jnp.int32)
    compiled = jax.jit(forward).lower(nnx.as_pure(state), image, ids).compile()
    # Ours leaves out norms and activations, and halves causal attention, which XLA computes whole.
    assert np.isclose(forward_flops_total(config), compiled.cost_analysis()["flops"] / 4, rtol=0.1)
