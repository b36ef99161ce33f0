"""Attention: joint projections, and what is handed to cuDNN's kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from kmm_jax.models import registry
from kmm_jax.models.attention import Attention, attend, attend_evenly, flash_takes, project
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.keys import abstract_module

BATCH, HEADS, HEAD_WIDTH = 2, 3, 8


def arrays(queries, keys, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    lengths = (queries, keys, keys)
    return [
        jnp.asarray(rng.normal(size=(BATCH, length, HEADS, HEAD_WIDTH)), dtype)
        for length in lengths
    ]


def test_a_joint_product_equals_one_product_each():
    attention = Attention(16, 2, context_width=12, dtype=jnp.float32, rngs=nnx.Rngs(0))
    for projection in (attention.key, attention.value):
        projection.bias[...] = jax.random.normal(jax.random.key(1), (16,))
    x = jax.random.normal(jax.random.key(2), (3, 5, 12))
    together = project(x, (attention.key, attention.value))
    for found, projection in zip(together, (attention.key, attention.value), strict=True):
        np.testing.assert_allclose(found, projection(x), atol=1e-6)


def test_each_projection_starts_as_if_it_stood_alone():
    attention = Attention(64, 4, dtype=jnp.float32, rngs=nnx.Rngs(0))
    bound = (6 / (64 + 64)) ** 0.5  # Xavier's, of one projection of 64 by 64
    for projection in (attention.query, attention.key, attention.value):
        largest = float(jnp.abs(projection.kernel[...]).max())
        assert 0.98 * bound < largest <= bound


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (4, 7), (7, 4), (6, 6)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_lengths_made_even_change_neither_outputs_nor_gradients(queries, keys, causal, masked):
    q, k, v = arrays(queries, keys)
    mask = None
    if masked:
        mask = jnp.asarray(np.random.default_rng(1).random((BATCH, 1, 1, keys)) < 0.6)
        mask = mask.at[..., 0].set(True)
    weights = jax.random.normal(jax.random.key(0), q.shape)

    def plainly(q, k, v):
        return jnp.sum(weights * attend(q, k, v, causal=causal, mask=mask))

    def evenly(q, k, v):
        y = attend_evenly(q, k, v, causal=causal, mask=mask, implementation="xla")
        return jnp.sum(weights * y)

    for found, expected in zip(
        jax.value_and_grad(evenly, argnums=(0, 1, 2))(q, k, v)[1],
        jax.value_and_grad(plainly, argnums=(0, 1, 2))(q, k, v)[1],
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(evenly(q, k, v), plainly(q, k, v), rtol=1e-5)


def attentions(config):
    """(queries, keys, head width) of every attention in a training step, but for single queries."""
    vision, text = config.vision, config.text
    tokens = vision.patches + vision.class_token
    yield tokens, tokens, vision.width // vision.heads
    head = text.width // text.heads
    if isinstance(config, CoCaConfig):
        yield text.length + 1, text.length + 1, head
        yield text.length, text.length, head
        yield text.length, config.queries, head
        yield config.queries, vision.patches, text.width // config.pooler_heads
    else:
        yield text.length, text.length, head


@pytest.mark.parametrize(
    "name", ["clip-b32", "clip-b16", "clip-l14", "coca-base", "coca-large", "coca-2b"]
)
def test_every_attention_of_a_published_model_goes_to_cudnn(name):
    for queries, keys, head_width in attentions(registry.preset(name)):
        assert flash_takes(jnp.bfloat16, queries=queries, keys=keys, head_width=head_width)


def test_cudnn_gets_no_single_query_no_float32_and_no_odd_head():
    fits = {"queries": 64, "keys": 64, "head_width": 64}
    assert flash_takes(jnp.bfloat16, **fits)
    assert not flash_takes(jnp.float32, **fits)
    for name, value in (("queries", 1), ("keys", 1), ("head_width", 36), ("head_width", 136)):
        assert not flash_takes(jnp.bfloat16, **fits | {name: value})


@pytest.fixture
def on_a_gpu(monkeypatch):
    """As far as tracing goes: JAX checks there what cuDNN's training kernel takes."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91_800)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(197, 197), (65, 65), (64, 256), (50, 50), (64, 49)])
def test_jax_lets_the_gradient_of_any_length_through_to_cudnn(
    on_a_gpu, queries, keys, causal, masked
):
    q, k, v = arrays(queries, keys, jnp.bfloat16)
    mask = jnp.ones((BATCH, 1, 1, keys), bool) if masked else None

    def loss(q, k, v):
        return attend(q, k, v, causal=causal, mask=mask).astype(jnp.float32).sum()

    program = str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v))
    assert "dot_product_attention_fwd" in program and "dot_product_attention_bwd" in program


def test_jax_itself_refuses_odd_lengths_in_training(on_a_gpu):
    """Once it does not, nothing needs to be made even without a mask."""
    q, k, v = arrays(65, 65, jnp.bfloat16)

    def loss(q):
        y = jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
        return y.astype(jnp.float32).sum()

    with pytest.raises(NotImplementedError, match="65"):
        jax.grad(loss)(q)


def test_neither_tower_of_clip_nor_cocas_decoder_hands_cudnn_a_bias(on_a_gpu):
    for name in ("clip-b16", "coca-base"):
        config = registry.preset(name)
        graphdef, state = nnx.split(
            abstract_module(lambda rngs, config=config: registry.build(config, rngs=rngs))
        )
        image = jax.ShapeDtypeStruct((2, *[config.vision.image_size] * 2, 3), jnp.uint8)
        ids = jax.ShapeDtypeStruct((2, config.text.length), jnp.int32)

        def loss(params, image, ids, name=name, graphdef=graphdef):
            model = nnx.merge(graphdef, params)
            if name == "coca-base":
                return sum(jnp.sum(part) for part in model(image, ids))
            return jnp.sum(model.encode_image(image)) + jnp.sum(model.encode_text(ids))

        program = str(jax.make_jaxpr(jax.grad(loss))(nnx.as_pure(state), image, ids))
        calls = program.count("dot_product_attention_bwd_wrapper[")
        assert (
            calls
            == program.count("variadic_args=(False, False)") // 2
            == {
                "clip-b16": 2,  # an image and a text layer
                "coca-base": 5,  # an image, a unimodal, a multimodal layer's two, the larger pooler
            }[name]
        )
