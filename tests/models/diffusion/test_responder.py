"""Queries taken from a UNet, and what they gather from a text."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.generation.teaching import cross_attention_params
from kmm_jax.models.diffusion.config import UNetConfig
from kmm_jax.models.diffusion.responder import (
    Responder,
    chosen_queries,
    collected_queries,
    layer_widths,
    responders,
)
from kmm_jax.models.diffusion.unet import UNet

CONFIG = UNetConfig(
    widths=(16, 32),
    layers=1,
    transformers=(1, 2),
    heads=(2, 4),
    middle_transformers=2,
    context_width=8,
    norm_groups=8,
    sample_size=4,
)


@pytest.fixture(scope="module")
def unet() -> UNet:
    return UNet(CONFIG, rngs=nnx.Rngs(0))


def test_queries_come_from_every_layer_in_its_order(unet: UNet) -> None:
    def run(x: jax.Array, context: jax.Array) -> list[jax.Array]:
        with collected_queries() as found:
            unet(x, jnp.asarray([3.0, 500.0]), context)
        return found

    found = jax.eval_shape(run, jnp.zeros((2, 4, 4, 4)), jnp.zeros((2, 5, 8)))
    widths = [width for width, _ in layer_widths(CONFIG)]
    assert [each.shape[-1] for each in found] == widths
    assert {each.shape[:2] for each in found} == {(2, 16), (2, 4)}
    assert len(responders(CONFIG, 3, rngs=nnx.Rngs(0))) == len(widths)


def test_keys_and_values_are_taken_in_the_order_of_the_queries(unet: UNet) -> None:
    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(unet)))
    found = cross_attention_params(params, CONFIG)
    assert [each["to_k"]["kernel"].shape for each in found] == [
        (8, width) for width, _ in layer_widths(CONFIG)
    ]
    first = params["down_blocks"][0]["attentions"][0]["transformer_blocks"][0]["attn2"]
    assert np.array_equal(found[0]["to_v"]["kernel"], first["to_v"]["kernel"])


def test_a_responder_gathers_what_the_layer_does_and_is_blind_to_order(unet: UNet) -> None:
    layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    x = jax.random.normal(jax.random.key(1), (1, 6, 16))
    context = jax.random.normal(jax.random.key(2), (1, 5, 8))
    responder = Responder(16, 2, 8, 6, rngs=nnx.Rngs(0))
    responder.to_k.kernel[...] = layer.to_k.kernel[...]
    responder.to_v.kernel[...] = layer.to_v.kernel[...]
    responder.queries[...] = layer.to_q(x)[0]
    gathered = responder(context)
    assert jnp.allclose(layer.to_out(gathered), layer(x, context), atol=1e-5)
    assert jnp.allclose(responder(context[:, ::-1]), gathered, atol=1e-5)


def test_chosen_queries_are_among_those_given() -> None:
    given = jnp.arange(24.0).reshape(2, 3, 4)
    (chosen,) = chosen_queries([given], 5, jax.random.key(0))
    rows = {tuple(row) for row in np.asarray(given.reshape(-1, 4))}
    assert chosen.shape == (5, 4)
    assert {tuple(row) for row in np.asarray(chosen)} <= rows
