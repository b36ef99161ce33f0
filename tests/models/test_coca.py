"""CoCa: published sizes, what may see what, cached decoding, its three poolings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models import registry
from kmm_jax.models.coca.config import coca_2b, coca_base, coca_large, small
from kmm_jax.models.coca.modeling import CoCa
from kmm_jax.models.coca.token_decoder import TokenDecoder
from kmm_jax.models.summary import summarise
from tests.tiny_models import tiny_coca

BATCH, LENGTH, VOCABULARY = 3, 10, 40


def tiny(**changes):
    return tiny_coca(depth=2, half=2, vocabulary=VOCABULARY, length=LENGTH, **changes)


@pytest.fixture(scope="module")
def model():
    return CoCa(tiny(), rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    ids = rng.integers(7, VOCABULARY, (BATCH, LENGTH), dtype=np.int32)
    ids[:, 0], ids[:, 1], ids[0, 6:], ids[1, 8:] = 1, 4, 0, 0
    return jnp.asarray(rng.integers(0, 256, (BATCH, 16, 16, 3), dtype=np.uint8)), jnp.asarray(ids)


@pytest.mark.parametrize(
    ("config", "image", "text", "total"),
    [
        (coca_base(), 86e6, 297e6, 383e6),
        (coca_large(), 303e6, 484e6, 787e6),
        (coca_2b(), 1.0e9, 1.1e9, 2.1e9),
    ],
    ids=["base", "large", "2b"],
)
def test_parameter_counts_are_the_papers_table_1(config, image, text, total):
    counted = summarise(config)
    unit = 1e6 if total < 1e9 else 1e8
    # The paper prints 303M for 303.57M: it cuts, where its other figures are rounded.
    assert (
        counted["image"] // unit == image // unit or round(counted["image"] / unit) == image / unit
    )
    assert round(counted["text"] / unit) == round(text / unit)
    assert round(counted["paper_total"] / unit) == round(total / unit)


def test_text_states_never_see_later_tokens(model, batch):
    _, ids = batch
    _, states = model.encode_text(ids)
    _, changed = model.encode_text(ids.at[:, 5].set(9))
    np.testing.assert_array_equal(states[:, :5], changed[:, :5])
    assert not np.allclose(states[2, 5:], changed[2, 5:])


def test_text_vector_ignores_padding_but_sees_every_token(model, batch):
    _, ids = batch
    vectors, _ = model.encode_text(ids)
    changed, _ = model.encode_text(ids.at[2, 9].set(8))
    assert not np.allclose(vectors[2], changed[2])
    poisoned = model.text.embedding.tokens.embedding[...].at[0].set(50.0)
    graphdef, state = nnx.split(model)
    other = nnx.merge(graphdef, jax.tree.map(lambda x: x, state))
    other.text.embedding.tokens.embedding[...] = poisoned
    np.testing.assert_allclose(other.encode_text(ids)[0], vectors, atol=1e-6)


def test_cls_behind_its_text_equals_cls_at_the_end_with_padding_masked(model, batch):
    _, ids = batch
    cls = jnp.full((BATCH, 1), model.text.config.cls_id, ids.dtype)
    longer = jnp.concatenate([ids, cls], axis=1)
    visible = (longer != model.text.config.pad_id)[:, None, None, :]
    states = model.text.unimodal(model.text.embedding(longer), causal=True, mask=visible)
    vector, found = model.text.encode(ids)
    np.testing.assert_allclose(vector, model.text.cls_norm(states[:, -1]), atol=1e-5)
    text = np.asarray(ids != model.text.config.pad_id)
    np.testing.assert_allclose(found[text], states[:, :-1][text], atol=1e-5)


def test_logits_depend_on_the_image_and_only_on_earlier_tokens(model, batch):
    image, ids = batch
    _, _, logits = model(image, ids)
    _, _, other_image = model(255 - image, ids)
    _, _, other_text = model(image, ids.at[:, 5].set(9))
    assert logits.dtype == jnp.float32
    assert not np.allclose(logits, other_image, atol=1e-3)
    np.testing.assert_array_equal(logits[:, :5], other_text[:, :5])


@pytest.mark.parametrize("pooling", ["cascade", "parallel", "cls"])
def test_cached_decoding_gives_the_logits_of_the_whole_pass(pooling, batch):
    image, ids = batch
    model = CoCa(tiny(pooling=pooling), rngs=nnx.Rngs(1))
    _, _, logits = model(image, ids)
    _, image_tokens = model.encode_image(image)
    decoder = TokenDecoder(model.text)
    cache = decoder.start(image_tokens, LENGTH)
    for position in range(LENGTH):
        step, cache = decoder.step(ids[:, position], jnp.asarray(position), cache)
        np.testing.assert_allclose(step[2], logits[2, position], atol=2e-5)


def test_vectors_are_unit_float32_even_in_bfloat16(batch):
    image, ids = batch
    model = CoCa(tiny(dtype="bfloat16"), rngs=nnx.Rngs(0))
    image_vectors, text_vectors, logits = model(image, ids)
    for vectors in (image_vectors, text_vectors):
        assert vectors.dtype == jnp.float32
        np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(model)))


@pytest.mark.parametrize("remat", ["full", "dots_with_no_batch_dims_saveable"])
def test_rematerialised_gradients_equal_plain_ones(remat, batch):
    def gradient(config):
        graphdef, state = nnx.split(CoCa(config, rngs=nnx.Rngs(0)))

        @jax.jit
        def loss(parameters):
            image, text, logits = nnx.merge(graphdef, parameters)(*batch)
            return jnp.sum(image * text) + jnp.mean(logits**2)

        return jax.grad(loss)(nnx.as_pure(state))

    plain = tiny()
    config = dataclasses.replace(
        plain,
        vision=dataclasses.replace(plain.vision, remat=remat),
        text=dataclasses.replace(plain.text, remat=remat),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4),
        gradient(plain),
        gradient(config),
    )


def test_scanned_layers_equal_a_python_loop(model):
    x = jax.random.normal(jax.random.key(0), (2, 5, 32))
    graphdef, state = nnx.split(model.vision.blocks.layers)
    looped = x
    for i in range(2):
        layer = nnx.merge(graphdef, jax.tree.map(lambda p, i=i: p[i], nnx.as_pure(state)))
        looped = layer(looped)
    np.testing.assert_allclose(model.vision.blocks(x), looped, atol=1e-5)


def test_config_survives_json():
    config = tiny(pooling="cls")
    assert registry.from_json(registry.to_json(config)) == config


def test_wrong_configurations_are_refused():
    with pytest.raises(ValueError, match="class_token"):
        dataclasses.replace(tiny(), pooling="cls")
    with pytest.raises(ValueError, match="multiple of patch_size"):
        small(image_size=17, patch_size=8, width=32, depth=1, half=1, vocabulary=9, length=4)
    with pytest.raises(registry.ConfigError, match="did you mean 'coca-base'"):
        registry.preset("coca-bse")
    values = registry.to_json(tiny())
    values["pooler_head"] = values.pop("pooler_heads")
    with pytest.raises(registry.ConfigError, match="did you mean 'pooler_heads'"):
        registry.from_json(values)


def test_a_text_or_image_of_another_size_is_named(model, batch):
    image, ids = batch
    with pytest.raises(ValueError, match=r"16, 16"):
        model.encode_image(image[:, :8, :8])
    with pytest.raises(ValueError, match=r"text\.length=10"):
        model.encode_text(ids[:, :5])
