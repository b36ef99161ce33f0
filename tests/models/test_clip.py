"""CLIP: published sizes, and equality with open_clip's PyTorch model."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models.clip.config import CLIP_MEAN, CLIP_STD, clip_b16, clip_b32, clip_l14, clip_tiny
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.summary import summarise
from tests import references


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(clip_b32(), 151_277_313), (clip_b16(), 149_620_737), (clip_l14(), 427_616_513)],
    ids=["b32", "b16", "l14"],
)
def test_parameter_counts_are_openais(config, parameters):
    assert summarise(config)["total"] == parameters


def test_text_is_read_at_its_first_end_token():
    model = CLIP(clip_tiny(vocabulary=50, image_size=16), rngs=nnx.Rngs(0))
    ids = np.zeros((2, 32), np.int32)
    ids[:, :5] = [1, 5, 9, 10, 2]
    after = ids.copy()
    after[:, 6:] = 30
    np.testing.assert_allclose(
        model.encode_text(jnp.asarray(ids)), model.encode_text(jnp.asarray(after)), atol=1e-6
    )
    ids[1, 3] = 11
    vectors = model.encode_text(jnp.asarray(ids))
    assert not np.allclose(vectors[0], vectors[1])


def loaded_from_open_clip(model, theirs):
    """Our parameters filled from an open_clip CLIP's state dict, by hand."""
    state = {name: value.detach().numpy() for name, value in theirs.state_dict().items()}

    def tower(prefix, blocks, depth):
        def stack(name, pick=lambda x: x):
            rows = [state[f"{prefix}.resblocks.{i}.{name}"] for i in range(depth)]
            return np.stack([pick(row) for row in rows])

        layers = blocks.layers
        for index, projection in enumerate(("query", "key", "value")):
            ours = getattr(layers.attention, projection)
            ours.kernel[...] = stack(
                "attn.in_proj_weight", lambda x, index=index: np.split(x, 3)[index].T
            )
            ours.bias[...] = stack(
                "attn.in_proj_bias", lambda x, index=index: np.split(x, 3)[index]
            )
        for ours, name in (
            (layers.attention.out, "attn.out_proj"),
            (layers.mlp.up, "mlp.c_fc"),
            (layers.mlp.down, "mlp.c_proj"),
        ):
            ours.kernel[...] = stack(f"{name}.weight", np.transpose)
            ours.bias[...] = stack(f"{name}.bias")
        for ours, name in ((layers.attention_norm, "ln_1"), (layers.mlp_norm, "ln_2")):
            ours.scale[...], ours.bias[...] = stack(f"{name}.weight"), stack(f"{name}.bias")

    def norm(ours, name):
        ours.scale[...], ours.bias[...] = state[f"{name}.weight"], state[f"{name}.bias"]

    vision, text = model.vision, model.text
    tower("visual.transformer", vision.blocks, vision.config.depth)
    tower("transformer", text.blocks, text.config.depth)
    convolution = state["visual.conv1.weight"]
    kernel = convolution.transpose(2, 3, 1, 0).reshape(-1, convolution.shape[0])
    vision.patch_embedding.kernel[...] = kernel
    vision.class_embedding[...] = state["visual.class_embedding"]
    vision.positions[...] = state["visual.positional_embedding"]
    norm(vision.pre_norm, "visual.ln_pre")
    norm(vision.norm, "visual.ln_post")
    norm(text.norm, "ln_final")
    text.embedding.tokens.embedding[...] = state["token_embedding.weight"]
    text.embedding.positions[...] = state["positional_embedding"]
    model.image_projection.kernel[...] = state["visual.proj"]
    model.text_projection.kernel[...] = state["text_projection"]
    return model


def test_vectors_equal_open_clips_with_the_same_weights():
    open_clip = references.open_clip()
    import torch

    torch.manual_seed(0)
    theirs = open_clip.model.CLIP(
        embed_dim=32,
        vision_cfg=open_clip.CLIPVisionCfg(
            image_size=32, patch_size=8, width=64, layers=3, head_width=64
        ),
        text_cfg=open_clip.CLIPTextCfg(
            vocab_size=100, context_length=12, width=64, layers=2, heads=1
        ),
    ).eval()
    config = clip_b32(vocabulary=100, image_size=32)
    config = dataclasses.replace(
        config,
        vision=dataclasses.replace(
            config.vision, patch_size=8, width=64, depth=3, heads=1, hidden=256
        ),
        text=dataclasses.replace(
            config.text, length=12, width=64, depth=2, heads=1, hidden=256, pooling="argmax"
        ),
        embedding=32,
        dtype="float32",
    )
    ours = loaded_from_open_clip(CLIP(config, rngs=nnx.Rngs(0)), theirs)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    ids = rng.integers(3, 99, (4, 12)).astype(np.int32)
    ids[:, -1] = 99
    normalised = (pixels / 255 - np.asarray(CLIP_MEAN)) / np.asarray(CLIP_STD)
    images = torch.from_numpy(normalised.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        image = theirs.encode_image(images, normalize=True).numpy()
        text = theirs.encode_text(torch.from_numpy(ids.astype(np.int64)), normalize=True).numpy()
    np.testing.assert_allclose(ours.encode_image(jnp.asarray(pixels)), image, atol=2e-5)
    np.testing.assert_allclose(ours.encode_text(jnp.asarray(ids)), text, atol=2e-5)
