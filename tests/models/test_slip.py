"""SLIP: the authors' sizes, CLIP's vectors, and PyTorch's head."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models import registry
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.keys import abstract_module
from kmm_jax.models.slip.config import ViewHeadConfig, slip_b16, slip_tiny
from kmm_jax.models.slip.modeling import SLIP, BatchNorm, ViewHead
from kmm_jax.models.summary import summarise

CONFIG = slip_tiny(vocabulary=50, image_size=16)


@pytest.fixture(scope="module")
def model():
    return SLIP(CONFIG, rngs=nnx.Rngs(0))


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 16, 16, 3), dtype=np.uint8)


def test_parameter_counts_are_those_of_the_authors_network():
    # timm's vit_base_patch16_224 without its classifier, with a projection to 512.
    image = 85_798_656 + 768 * 512
    # OpenAI's text tower: words, positions, 12 layers, the last norm and the projection.
    text = 49_408 * 512 + 77 * 512 + 12 * (12 * 512**2 + 13 * 512) + 2 * 512 + 512 * 512
    # Linear(768, 4096), BN, Linear(4096, 4096), BN, Linear(4096, 256).
    head = 769 * 4096 + 2 * 4096 + 4097 * 4096 + 2 * 4096 + 4097 * 256
    size = summarise(slip_b16())
    assert size["image"] == image
    assert size["text"] == text
    assert size["total"] == image + text + 1 + head  # and the temperature
    assert summarise(slip_b16().clip)["total"] == image + text + 1


def test_its_clip_is_the_clip_of_the_same_configuration():
    config = slip_b16(vocabulary=1000, image_size=112)
    for field in dataclasses.fields(config.clip):
        assert getattr(config.clip, field.name) == getattr(config, field.name)


def test_vectors_are_those_of_a_clip_with_the_same_parameters(model):
    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(model)))["clip"]
    graphdef = nnx.graphdef(abstract_module(lambda rngs: CLIP(CONFIG.clip, rngs=rngs)))
    clip = nnx.merge(graphdef, params)
    ids = np.zeros((3, 32), np.int32)
    ids[:, :4] = [[1, 9, 10, 2], [1, 30, 2, 0], [1, 2, 0, 0]]
    image, text = jnp.asarray(pixels(3)), jnp.asarray(ids)
    np.testing.assert_allclose(model.encode_image(image), clip.encode_image(image), atol=1e-6)
    np.testing.assert_allclose(model.encode_text(text), clip.encode_text(text), atol=1e-6)


def test_views_go_through_the_tower_of_the_images(model):
    views = pixels(3, 2)
    features = model.view_features(jnp.asarray(views))
    assert features.shape == (3, 2, CONFIG.vision.width)
    for view in range(2):
        _, class_BD = model.clip.vision(jnp.asarray(views[:, view]))
        np.testing.assert_allclose(features[:, view], class_BD, atol=1e-5)


def test_every_variable_is_a_parameter(model):
    _, others = nnx.state(model).split(nnx.Param, ...)
    assert not jax.tree.leaves(others)


def test_the_configuration_survives_json():
    assert registry.from_json(registry.to_json(CONFIG)) == CONFIG
    assert registry.family(CONFIG) == "slip"


def test_batch_norm_leaves_mean_0_and_variance_1_whatever_the_offset():
    x = 1000 + 3 * np.random.default_rng(0).normal(size=(64, 5))
    normalised = np.asarray(BatchNorm(5)(jnp.asarray(x, jnp.float32)))
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.var(axis=0), 1, atol=1e-3)


def test_the_head_is_pytorchs_with_the_same_weights():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    width, hidden, embedding = 12, 20, 6
    theirs = torch.nn.Sequential(
        torch.nn.Linear(width, hidden),
        torch.nn.BatchNorm1d(hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, hidden),
        torch.nn.BatchNorm1d(hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, embedding),
    ).train()
    ours = ViewHead(
        width,
        ViewHeadConfig(hidden=hidden, embedding=embedding),
        dtype=jnp.dtype("float32"),
        rngs=nnx.Rngs(0),
    )
    for number, linear in ((0, ours.first), (3, ours.second), (6, ours.last)):
        linear.kernel[...] = theirs[number].weight.detach().numpy().T
        linear.bias[...] = theirs[number].bias.detach().numpy()
    for number, norm in ((1, ours.first_norm), (4, ours.second_norm)):
        torch.nn.init.normal_(theirs[number].weight)
        torch.nn.init.normal_(theirs[number].bias)
        norm.scale[...] = theirs[number].weight.detach().numpy()
        norm.bias[...] = theirs[number].bias.detach().numpy()
    features = np.random.default_rng(0).normal(size=(16, width)).astype(np.float32)
    expected = torch.nn.functional.normalize(theirs(torch.from_numpy(features)), dim=-1)
    np.testing.assert_allclose(ours(jnp.asarray(features)), expected.detach().numpy(), atol=1e-5)
