"""Grad-CAM: equal to PyTorch's gradients through hooks, and to finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models.clip.config import CLIP_MEAN, CLIP_STD, clip_b32, clip_tiny
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.coca.modeling import CoCa
from kmm_jax.models.grad_cam import grad_cam, weighted
from kmm_jax.models.text import unit
from tests import references
from tests.models.test_clip import loaded_from_open_clip
from tests.tiny_models import tiny_coca


def tiny_clip(depth=2, dtype="float32"):
    config = clip_tiny(vocabulary=50, image_size=16)
    vision = dataclasses.replace(
        config.vision, depth=depth, width=16, heads=2, hidden=32, patch_size=4, stem="linear"
    )
    text = dataclasses.replace(config.text, depth=1, length=8, width=16, heads=2, hidden=32)
    config = dataclasses.replace(config, vision=vision, text=text, embedding=8, dtype=dtype)
    return CLIP(config, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


def batch(seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(7, 49, (3, 8)).astype(np.int32)
    ids[:, -1] = 2
    return jnp.asarray(rng.integers(0, 256, (3, 16, 16, 3), np.uint8)), jnp.asarray(ids)


def heat_map(model, pixels, ids):
    return np.asarray(jax.jit(model.heat_map)(pixels, ids))


def test_channels_are_weighted_by_their_mean_gradient_and_what_is_below_zero_is_cut():
    rng = np.random.default_rng(0)
    activation, gradient = rng.standard_normal((2, 3, 2, 5, 4)).astype(np.float32)
    expected = np.zeros((2, 5))
    for example in range(2):
        for patch in range(5):
            for activations, gradients in zip(activation, gradient, strict=True):
                weights = [np.mean(gradients[example, :, channel]) for channel in range(4)]
                expected[example, patch] += weights @ activations[example, patch]
    assert (expected > 0).any() and (expected < 0).any()
    found = weighted(jnp.asarray(activation), jnp.asarray(gradient))
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-5)


def test_a_clips_equals_pytorchs_autograd_through_open_clip():
    open_clip = references.open_clip()
    import torch

    torch.manual_seed(0)
    theirs = open_clip.model.CLIP(
        embed_dim=32,
        vision_cfg=open_clip.CLIPVisionCfg(
            image_size=32, patch_size=8, width=64, layers=3, head_width=32
        ),
        text_cfg=open_clip.CLIPTextCfg(
            vocab_size=100, context_length=12, width=64, layers=2, heads=1
        ),
    ).eval()
    config = clip_b32(vocabulary=100, image_size=32)
    vision = dataclasses.replace(
        config.vision, patch_size=8, width=64, depth=3, heads=2, hidden=256
    )
    text = dataclasses.replace(
        config.text, length=12, width=64, depth=2, heads=1, hidden=256, pooling="argmax"
    )
    config = dataclasses.replace(config, vision=vision, text=text, embedding=32, dtype="float32")
    ours = loaded_from_open_clip(CLIP(config, rngs=nnx.Rngs(0)), theirs)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    ids = rng.integers(3, 99, (4, 12)).astype(np.int32)
    ids[:, -1] = 99

    kept = []

    class Watched(torch.nn.Module):
        """Attention whose keys and values are made of a copy of its own, which is kept."""

        def __init__(self, attention):
            super().__init__()
            self.attention = attention

        def forward(self, query, key, value, **more):
            patches = query.clone()
            patches.retain_grad()
            kept.append(patches)
            return self.attention(query, patches, patches, **more)

    for block in theirs.visual.transformer.resblocks:
        block.attn = Watched(block.attn)
    normalised = (pixels / 255 - np.asarray(CLIP_MEAN)) / np.asarray(CLIP_STD)
    images = torch.from_numpy(normalised.transpose(0, 3, 1, 2).astype(np.float32))
    image = theirs.encode_image(images, normalize=True)
    words = theirs.encode_text(torch.from_numpy(ids.astype(np.int64)), normalize=True)
    (image * words).sum().backward()
    assert len(kept) == 3
    parts = [(one[:, 1:] * one.grad[:, 1:].mean(1, keepdim=True)).sum(-1) for one in kept]
    expected = torch.relu(sum(parts)).detach().numpy()
    found = heat_map(ours, jnp.asarray(pixels), jnp.asarray(ids))
    assert found.shape == (4, 4, 4)
    assert (expected > 0).any(axis=1).all()
    np.testing.assert_allclose(found.reshape(4, 16), expected, atol=1e-4 * expected.max())


def coca(pooling, depth=1):
    config = tiny_coca(vocabulary=50, length=8, depth=depth, pooling=pooling, dtype="float32")
    return CoCa(config, rngs=nnx.Rngs(0))


def kept_activations(vision, pixels):
    """Every layer's patches behind the LayerNorm of its attention, and those behind the tower."""
    x_BSD = vision.embed(pixels)
    first = int(vision.config.class_token)
    found = []
    for layer in vision.blocks.unstack():
        found.append(layer.attention_norm(x_BSD)[:, first:])
        x_BSD = layer(x_BSD)
    return jnp.stack([*found, vision.read(x_BSD)[0]])


@pytest.mark.parametrize("pooling", ["cascade", "parallel", "cls"])
def test_a_cocas_equals_finite_differences(pooling):
    """The model's own vectors, with one number added to what attention takes from one patch."""
    model = coca(pooling)
    pixels, ids = batch()
    config = model.vision.config
    numbers = config.patches * config.width
    step = 2e-2

    def moved(place, sign):
        """All cosines with activation number ``place`` moved."""
        shift = (sign * step * jax.nn.one_hot(place, 2 * numbers)).reshape(
            2, 1, config.patches, config.width
        )
        (layer,) = model.vision.blocks.unstack()
        x_BSD = model.vision.embed(pixels)
        first = int(config.class_token)
        y_BSD = layer.attention_norm(x_BSD)
        taken = jnp.concatenate([y_BSD[:, :first], y_BSD[:, first:] + shift[0]], axis=1)
        x_BSD += layer.attention(y_BSD, taken)  # queries from y, keys and values from what is moved
        x_BSD += layer.mlp(layer.mlp_norm(x_BSD))
        patches_BND, class_BD = model.vision.read(x_BSD)
        patches_BND += shift[1]
        if pooling == "cls":
            pooled_BD = class_BD
        elif pooling == "parallel":
            pooled_BD = model.contrastive_pooler(patches_BND)[:, 0]
        else:
            pooled_BD = model.contrastive_pooler(model.generative_pooler(patches_BND))[:, 0]
        return jnp.sum(unit(model.image_projection(pooled_BD)) * model.encode_text(ids)[0], axis=1)

    @jax.jit
    def differences():
        return jax.lax.map(lambda at: moved(at, 1.0) - moved(at, -1.0), jnp.arange(2 * numbers))

    cosine_B = (model.encode_image(pixels)[0] * model.encode_text(ids)[0]).sum(axis=1)
    np.testing.assert_allclose(jax.jit(moved)(0, 0.0), cosine_B, atol=1e-6)
    gradient = np.asarray(differences()).T.reshape(3, 2, config.patches, config.width)
    gradient = jnp.asarray(gradient / (2 * step)).swapaxes(0, 1)
    expected = weighted(kept_activations(model.vision, pixels), gradient).reshape(3, 2, 2)
    found = heat_map(model, pixels, ids)
    assert found.max() > 0
    np.testing.assert_allclose(found, expected, atol=0.02 * found.max())


@pytest.mark.parametrize("depth", [1, 3])
def test_what_is_scored_is_what_the_whole_tower_gives(depth):
    vision = tiny_clip(depth).vision
    pixels, _ = batch()
    scored = []

    def score(patches_BND, class_BD):
        jax.debug.callback(lambda *values: scored.append(values), patches_BND, class_BD)
        return class_BD.sum(axis=1)

    heat = jax.jit(lambda pixels: grad_cam(vision, pixels, score))(pixels)
    jax.effects_barrier()
    assert heat.shape == (3, 4, 4)
    for found, expected in zip(scored[0], jax.jit(vision)(pixels), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_before_its_layer_norm_no_patch_counts_for_itself(clip):
    """Why the activations are taken behind it: the gradient there is at right angles to them."""
    pixels, ids = batch()

    @jax.jit
    def before(pixels, ids):
        first, last = clip.vision.blocks.unstack()
        text_BE = clip.encode_text(ids)
        x_BSD = first(clip.vision.embed(pixels))

        def score(x_BSD):
            _, class_BD = clip.vision.read(last(x_BSD))
            return (unit(clip.image_projection(class_BD)) * text_BE).sum()

        return x_BSD[:, 1:], jax.grad(score)(x_BSD)[:, 1:]

    x_BND, gradient_BND = map(np.asarray, before(pixels, ids))
    lengths = np.linalg.norm(gradient_BND, axis=2) * np.linalg.norm(x_BND, axis=2)
    assert np.abs((gradient_BND * x_BND).sum(axis=2) / lengths).max() < 1e-3


def test_examples_do_not_mix(clip):
    pixels, ids = batch()
    together = heat_map(clip, pixels, ids)
    alone = heat_map(clip, pixels[1:2], ids[1:2])
    np.testing.assert_allclose(alone[0], together[1], atol=1e-6)


def test_heat_is_float32_whatever_the_model_computes_in():
    heat = heat_map(tiny_clip(dtype="bfloat16"), *batch())
    assert heat.dtype == np.float32
    assert np.isfinite(heat).all() and (heat >= 0).all()


def test_patches_are_laid_out_as_they_stand_in_the_picture(clip):
    pixels, _ = batch()
    place = 1 * 4 + 2

    def score(patches_BND, class_BD):
        return jnp.square(patches_BND[:, place]).sum(axis=1)

    heat = jax.jit(lambda pixels: grad_cam(clip.vision, pixels, score))(pixels)
    assert (np.asarray(heat)[:, 1].argmax(axis=1) == 2).all()
    assert (np.asarray(heat).reshape(3, 16).argmax(axis=1) == place).all()
