"""The one tower: F(X|Y) and its identities, one head for all, batch norm over the global batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models import registry
from kmm_jax.models.keys import abstract_module
from kmm_jax.models.oner.config import MaskingConfig, OneRConfig, oner_b16, oner_tiny
from kmm_jax.models.oner.head import BatchNorm
from kmm_jax.models.oner.modeling import OneR, Stream
from kmm_jax.models.summary import parameters
from kmm_jax.models.transformer import KeyValue

ROWS, LENGTH = 6, 8


def tiny(**changes) -> OneRConfig:
    config = oner_tiny(vocabulary=64, image_size=16, text_length=LENGTH)
    tower = dataclasses.replace(config.tower, width=32, depth=2, hidden=64)
    head = dataclasses.replace(config.head, hidden=48, embedding=16, **changes)
    return dataclasses.replace(config, tower=tower, head=head)


@pytest.fixture(scope="module")
def model():
    return OneR(tiny(), rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def text():
    ids = np.random.default_rng(1).integers(7, 64, (ROWS, LENGTH)).astype(np.int32)
    ids[:, 0] = 1
    for row, end in enumerate((3, 4, 5, 6, 7, 7)):
        ids[row, end], ids[row, end + 1 :] = 2, 0
    return jnp.asarray(ids)


def close(one, other):
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_given_itself_is_ordinary_self_attention(model, image):
    """F(X|X) = F(X), layer by layer and as a whole."""
    stream = model.image_sequence(image)
    layer = model.blocks.unstack()[0]
    close(layer.given(stream.x_BSD, layer.context(stream.x_BSD)), layer(stream.x_BSD))
    found = model.contextual(stream, stream)
    for one in found:
        close(one, model.tower(stream))


def test_each_stream_alone_is_what_it_is_without_the_other(model, image, text):
    streams = model.image_sequence(image), model.text_sequence(text)
    found = model.contextual(*streams)
    close(found.image, model.tower(streams[0]))
    close(found.text[:, 0], model.tower(streams[1])[:, 0])


def by_hand(model, queries: Stream, context: Stream):
    """F(X|Y), written from its definition: at each layer the queries of one stream over the keys
    and values of the other's own."""
    x, y = queries.x_BSD, context.x_BSD
    for layer in model.blocks.unstack():
        keys, values = layer.attention.key, layer.attention.value
        heads, h = layer.attention.heads, layer.attention_norm(y)

        def split(z, heads=heads):
            return z.reshape(*z.shape[:2], heads, -1)

        q = split(layer.attention.query(layer.attention_norm(x)))
        scores = jnp.einsum("bthk,bshk->bhts", q, split(keys(h))) / np.sqrt(q.shape[-1])
        if context.valid_BS is not None:
            scores = jnp.where(context.valid_BS[:, None, None, :], scores, -jnp.inf)
        mixed = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(scores), split(values(h)))
        x = x + layer.attention.out(mixed.reshape(*x.shape))
        x = x + layer.mlp(layer.mlp_norm(x))
        y = layer(y, mask=context.mask)
    return model.norm(x)


def test_in_context_queries_meet_the_other_streams_keys_and_values(model, image, text):
    streams = model.image_sequence(image), model.text_sequence(text)
    found = model.contextual(*streams)
    close(found.image_given_text, by_hand(model, *streams))
    close(found.text_given_image[:, 0], by_hand(model, *streams[::-1])[:, 0])
    assert np.abs(found.image_given_text - found.image).max() > 0.01


def test_the_order_of_a_context_does_not_matter_but_by_its_positions(model, image, text):
    one, other = model.image_sequence(image), model.text_sequence(text)
    order = np.random.default_rng(2).permutation(one.x_BSD.shape[1])
    turned = Stream(one.x_BSD[:, order], None)
    close(
        model.contextual(turned, other).text_given_image[:, 0],
        model.contextual(one, other).text_given_image[:, 0],
    )


def test_padding_changes_nothing(model, image, text):
    longer = jnp.pad(text[:1, :4], ((0, 0), (0, LENGTH - 4)))
    alone = model.encode_text(longer)
    shown = model.text_sequence(longer)
    close(alone, model.encode_text(jnp.asarray(text[:1]).at[:, 4:].set(0)))
    noise = Stream(jnp.where(shown.valid_BS[..., None], shown.x_BSD, 7.0), shown.valid_BS)
    close(model.tower(noise)[:, 0], model.tower(shown)[:, 0])
    both = model.joined(model.image_sequence(image[:1]), noise)
    expected = model.joined(model.image_sequence(image[:1]), shown)
    close(model.tower(both)[:, 0], model.tower(expected)[:, 0])


def test_image_and_text_are_joined_under_one_class_token(model, image, text):
    both = model.joined(model.image_sequence(image), model.text_sequence(text))
    patches = model.config.vision.patches
    assert both.x_BSD.shape == (ROWS, 1 + patches + LENGTH, 32)
    assert both.valid_BS.shape == both.x_BSD.shape[:2]


def test_vectors_are_unit_and_a_single_row_has_those_of_a_batch(model, image, text):
    """In use, running statistics count and not those of the batch."""
    for one, whole in (
        (model.encode_image(image[:1]), model.encode_image(image)),
        (model.encode_text(text[:1]), model.encode_text(text)),
        (model.encode_pair(image[:1], text[:1]), model.encode_pair(image, text)),
    ):
        close(np.linalg.norm(whole, axis=1), 1.0)
        close(one, whole[:1])


def test_the_predictor_scored_moves_images_and_leaves_texts(image, text):
    config = tiny()
    scored = dataclasses.replace(config, head=dataclasses.replace(config.head, scored="predictor"))
    one, other = (OneR(c, rngs=nnx.Rngs(0)) for c in (config, scored))
    assert np.abs(one.encode_image(image) - other.encode_image(image)).max() > 0.1
    close(one.encode_image(image, scored="predictor"), other.encode_image(image))
    close(one.encode_text(text), other.encode_text(text))


def test_every_one_headed_model_has_the_same_parameters_and_two_heads_have_one_more():
    def count(**changes):
        return parameters(OneR(tiny(**changes), rngs=nnx.Rngs(0)))

    head = parameters(OneR(tiny(), rngs=nnx.Rngs(0)).head)
    assert count() == count(statistics="joint") == count(statistics="modality")
    assert count(apart=True) == count() + head


def test_one_tower_of_b16_is_a_vit_b16_with_words():
    """The ViT-B/16 encoder of arXiv 2010.11929 has 85.8M; words and their positions come to it."""
    model = abstract_module(lambda rngs: OneR(oner_b16(), rngs=rngs))
    words = parameters(model.text)
    tower = parameters(model.blocks) + parameters(model.vision) + parameters(model.norm)
    assert round(tower / 1e6, 1) == 85.8
    assert words == (49_408 + 77) * 768


def given_patch(model, image, number):
    """F([CLS] | patch), a layer at a time: [CLS] over one key and value of the image's stream."""
    x = model.image_sequence(image).x_BSD
    token = x[:, :1]
    for layer in model.blocks.unstack():
        context = layer.context(x)
        one = KeyValue(context.key[:, number : number + 1], context.value[:, number : number + 1])
        token, x = layer.given(token, one), layer(x)
    return model.norm(token)[:, 0]


def test_heat_maps_are_cosines_of_patches(model, image, text):
    heat = model.heat_map(image, text)
    side = model.config.vision.side
    assert heat.shape == (ROWS, side, side)
    vector = model.head.in_use(given_patch(model, image, 1), "image", predict=False)
    cosine = jnp.sum(vector * model.encode_text(text), -1) / jnp.linalg.norm(vector, axis=-1)
    close(heat[:, 0, 0], cosine)


def test_two_heads_have_none_for_both_and_give_the_mean(image, text):
    model = OneR(tiny(apart=True), rngs=nnx.Rngs(0))
    mean = model.encode_image(image) + model.encode_text(text)
    close(model.encode_pair(image, text), mean / jnp.linalg.norm(mean, axis=1, keepdims=True))
    with pytest.raises(ValueError, match="none for an image with a text"):
        model.project({"both": jnp.zeros((4, 32))}, predict=True)


def test_masked_places_are_not_seen_and_are_predicted(image, text):
    """Through the convolutions of a stem neither."""
    config = dataclasses.replace(tiny(), masking=MaskingConfig())
    assert config.vision.stem == "conv"
    model = OneR(config, rngs=nnx.Rngs(0))
    hidden_BN = jnp.zeros((ROWS, 4), bool).at[:, 2].set(True)
    changed = np.array(image)
    changed[:, 8:, :8] = 0  # the third patch
    close(
        model.image_sequence(image, hidden_BN).x_BSD, model.image_sequence(changed, hidden_BN).x_BSD
    )
    final = model.tower(model.joined(model.image_sequence(image), model.text_sequence(text)))
    assert model.predicted_pixels(final).shape == (ROWS, 4, 3 * 8 * 8)
    assert model.text.attend(model.word_vectors(final)).shape == (ROWS, LENGTH, 64)


class TestBatchNorm:
    def passes(self):
        rng = np.random.default_rng(3)
        return {
            name: jnp.asarray(rng.normal(place, 2, (32, 5)), jnp.float32)
            for place, name in ((0, "image"), (5, "text"))
        }

    def norm(self, grouping, momentum=0.0):
        return BatchNorm(5, grouping=grouping, momentum=momentum, affine=True)

    def test_by_pass_equals_pytorchs(self):
        torch = pytest.importorskip("torch")
        theirs = torch.nn.BatchNorm1d(5)
        x = self.passes()["image"]
        found = self.norm("pass").in_training({"image": x})["image"]
        close(found, theirs(torch.tensor(np.asarray(x))).detach().numpy())

    @pytest.mark.parametrize("grouping", ["pass", "modality"])
    def test_each_pass_alone_has_mean_0(self, grouping):
        for x in self.norm(grouping).in_training(self.passes()).values():
            close(x.mean(axis=0), 0)

    def test_joint_passes_keep_their_distance(self):
        """What tells images from texts is left, as it is for one batch of both."""
        passes = self.passes()
        found = self.norm("joint").in_training(passes)
        whole = jnp.concatenate(list(passes.values()))
        expected = (whole - whole.mean(0)) / jnp.sqrt(whole.var(0) + 1e-5)
        close(jnp.concatenate(list(found.values())), expected)
        assert found["text"].mean() > 0.5

    def test_in_use_only_by_modality_takes_each_ones_own_statistics(self):
        passes = self.passes()
        for grouping, apart in (("modality", False), ("pass", True), ("joint", True)):
            norm = self.norm(grouping)
            norm.in_training(passes)
            means = [norm.in_use(x, name).mean() for name, x in passes.items()]
            assert (abs(means[0] - means[1]) > 0.5) == apart, grouping

    def test_running_statistics_do_not_depend_on_the_order_of_passes(self):
        passes = self.passes()
        one, other = self.norm("pass", momentum=0.5), self.norm("pass", momentum=0.5)
        one.in_training(passes)
        other.in_training(dict(reversed(passes.items())))
        close(one.mean[0], 0.5 * sum(x.mean(axis=0) for x in passes.values()) / 2)
        close(one.mean[...], other.mean[...])

    def test_where_no_pass_of_both_is_trained_theirs_lie_between(self):
        norm = self.norm("modality")
        norm.in_training(self.passes())
        close(norm.mean[2], norm.mean[:2].mean(axis=0))

    def test_running_statistics_follow_by_momentum(self):
        norm = self.norm("pass", momentum=0.9)
        x = self.passes()["text"]
        norm.in_training({"text": x})
        close(norm.mean[0], 0.1 * x.mean(axis=0))
        close(norm.variance[0], 0.9 + 0.1 * x.var(axis=0))


def test_a_configuration_goes_to_json_and_back():
    for config in (tiny(), dataclasses.replace(tiny(), masking=MaskingConfig(image_share=0.3))):
        assert registry.from_json(registry.to_json(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scored": "predictor", "predictor": False}, "head.predictor is off"),
        ({"momentum": 1.0}, "momentum"),
    ],
)
def test_heads_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)
