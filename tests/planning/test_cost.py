"""Memory, operations and traffic of small functions, worked out by hand."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from kmm_jax.models.clip.config import clip_b16
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.flops import forward_flops_total
from kmm_jax.models.keys import abstract_module
from kmm_jax.planning.cost import bodies, cost

N = 64
MATRIX = jax.ShapeDtypeStruct((N, N), jnp.float32)
BYTES = N * N * 4


def of(function, *arguments, **keywords):
    return cost(jax.make_jaxpr(function)(*arguments).jaxpr, **keywords)


def test_a_chain_of_products_holds_two_of_them_and_reads_and_writes_each():
    found = of(lambda x, w: x @ w @ w @ w, MATRIX, MATRIX)
    assert found.peak == 2 * BYTES
    assert found.flops == 3 * 2 * N**3
    assert sum(op.traffic for op in found.operations) == 3 * 3 * BYTES


def test_what_is_elementwise_stays_in_registers():
    found = of(lambda x: jnp.sum(jnp.exp(jnp.tanh(x) * 2 + 1)), MATRIX)
    assert found.peak == 4  # the sum
    assert sum(op.traffic for op in found.operations) == BYTES + 4


def test_a_fused_result_keeps_what_it_is_made_of():
    def late(x, w):
        y = x @ w
        z = jnp.tanh(y)  # never written, so y must stay until it is added
        return (w @ w) + z

    assert of(late, MATRIX, MATRIX).peak == 3 * BYTES  # y, w @ w and the result


def test_a_scan_runs_its_body_as_often_and_keeps_what_it_stacks():
    def stacked(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, x), x, length=7)

    found = of(stacked, MATRIX, MATRIX)
    assert found.flops == 7 * 2 * N**3
    assert 8 * BYTES <= found.peak <= 9 * BYTES  # seven kept and the carry


def test_recomputation_holds_less_and_computes_more():
    def deep(remat):
        def layer(x, w):
            return jnp.tanh(jnp.tanh(x @ w) @ w)

        layer = jax.checkpoint(layer, prevent_cse=False) if remat else layer

        def loss(w, x):
            return jax.lax.scan(lambda x, _: (layer(x, w), None), x, length=20)[0].sum()

        return of(jax.grad(loss), MATRIX, MATRIX)

    kept, made_again = deep(False), deep(True)
    assert made_again.peak < 0.7 * kept.peak
    assert kept.flops < made_again.flops <= 4 / 3 * kept.flops


def test_inside_a_kernel_nothing_reaches_memory():
    def attention(q):
        with jax.named_scope("kernel"):
            weights = jax.nn.softmax(q @ q.T)
            return weights @ q

    wide = jax.ShapeDtypeStruct((512, 8), jnp.float32)
    assert of(attention, wide).peak > 512 * 512 * 4
    fused = of(attention, wide, kernel="kernel")
    assert fused.peak == 512 * 8 * 4
    assert fused.flops == 2 * 2 * 512 * 512 * 8


def test_a_step_of_clip_takes_three_times_the_operations_counted_by_hand():
    config = clip_b16()
    graphdef, state = nnx.split(abstract_module(lambda rngs: CLIP(config, rngs=rngs)))
    image = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.uint8)
    text = jax.ShapeDtypeStruct((2, config.text.length), jnp.int32)

    def loss(params, image, text):
        clip = nnx.merge(graphdef, params)
        return clip.encode_image(image).sum() + clip.encode_text(text).sum()

    found = of(jax.grad(loss), nnx.to_pure_dict(nnx.as_pure(state)), image, text)
    assert found.flops / 2 == pytest.approx(3 * forward_flops_total(config), rel=0.02)


def test_bodies_are_found_wherever_they_stand():
    def nested(x):
        return jax.lax.scan(lambda x, _: (jax.jit(jnp.sin)(x), None), x, length=2)[0]

    jaxpr = jax.make_jaxpr(nested)(MATRIX).jaxpr
    assert len(bodies(jaxpr, "scan")) == 1
    assert not bodies(jaxpr, "shard_map")
