"""XLM-RoBERTa as a CLIP's text tower: sizes, padding, configuration, and training over a mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.errors import ConfigError
from kmm_jax.models import registry
from kmm_jax.models.clip.config import XLMRobertaConfig, clip_tiny, clip_xlmr_b32, clip_xlmr_h14
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.flops import forward_flops
from kmm_jax.models.keys import abstract_module
from kmm_jax.models.summary import summarise
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.training import dump, overrides
from kmm_jax.training.sharding import MeshConfig
from tests import references
from tests.tasks.updates import MESHES, OVER_MESHES, assert_equal, two_updates

ROWS, LENGTH, PAD = 16, 8, 1


def tiny(**text):
    sizes = {
        "vocabulary": 64, "length": LENGTH, "width": 64, "depth": 2, "heads": 4, "hidden": 128,
        "positions": 16,
    }  # fmt: skip
    config = clip_tiny(image_size=16)
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, width=64, depth=1, hidden=64),
        text=XLMRobertaConfig(**sizes | text),
        embedding=32,
    )


def texts(*lengths):
    rng = np.random.default_rng(0)
    ids = np.full((len(lengths), LENGTH), PAD, np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[0], row[length - 1] = 0, 2
        row[1 : length - 1] = rng.integers(4, 64, length - 2)
    return ids


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(clip_xlmr_b32(), 366_121_473), (clip_xlmr_h14(), 1_193_014_785)],
    ids=["b32", "h14"],
)
def test_parameter_counts_are_open_clips(config, parameters, tmp_path):
    assert summarise(config)["total"] == parameters
    open_clip = references.open_clip()
    transformers = pytest.importorskip("transformers")
    import torch

    text, vision = config.text, config.vision
    transformers.XLMRobertaConfig(
        vocab_size=text.vocabulary, hidden_size=text.width, num_hidden_layers=text.depth,
        num_attention_heads=text.heads, intermediate_size=text.hidden,
        max_position_embeddings=text.positions, type_vocab_size=1,
    ).save_pretrained(tmp_path)  # fmt: skip
    with torch.device("meta"):
        theirs = open_clip.model.CustomTextCLIP(
            embed_dim=config.embedding,
            vision_cfg=open_clip.CLIPVisionCfg(
                image_size=224, patch_size=vision.patch_size, width=vision.width,
                layers=vision.depth, head_width=vision.width // vision.heads,
            ),
            text_cfg=open_clip.CLIPTextCfg(hf_model_name=str(tmp_path), hf_model_pretrained=False),
        )  # fmt: skip
    assert sum(each.numel() for each in theirs.parameters()) == parameters


@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("projection", ["linear", "biased", "mlp"])
def test_a_text_has_one_vector_whatever_pads_it(pooling, projection):
    model = CLIP(tiny(pooling=pooling, projection=projection), rngs=nnx.Rngs(0))
    ids = texts(3, 5, LENGTH)
    vectors = model.encode_text(jnp.asarray(ids))
    for row, length in zip(range(3), (3, 5, LENGTH), strict=True):
        alone = model.encode_text(jnp.asarray(ids[row : row + 1, :length]))
        np.testing.assert_allclose(vectors[row], alone[0], atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_every_token_sees_every_other():
    model = CLIP(tiny(pooling="first"), rngs=nnx.Rngs(0))
    ids = texts(LENGTH)
    other = ids.copy()
    other[0, -2] = 4 if ids[0, -2] != 4 else 5
    assert (
        np.abs(model.encode_text(jnp.asarray(ids)) - model.encode_text(jnp.asarray(other))).max()
        > 1e-4
    )
    turned = ids.copy()
    turned[0, 2:4] = ids[0, [3, 2]]
    assert not np.allclose(
        model.encode_text(jnp.asarray(ids)), model.encode_text(jnp.asarray(turned)), atol=1e-5
    )


def test_no_row_at_all_is_no_nan():
    model = CLIP(tiny(), rngs=nnx.Rngs(0))
    assert np.isfinite(model.encode_text(jnp.full((1, LENGTH), PAD))).all()


def test_a_length_without_positions_is_refused():
    with pytest.raises(ValueError, match=r"text\.length=15.*enough for 14"):
        tiny(length=15)
    assert tiny(length=14).text.length == 14


def test_json_tells_the_towers_apart():
    config, causal = tiny(), clip_tiny()
    values = registry.to_json(config)
    assert values["text"]["kind"] == "xlm-roberta"
    assert registry.from_json(values) == config
    assert "kind" not in registry.to_json(causal)["text"], "as exports have been all along"
    assert registry.from_json(registry.to_json(causal)) == causal
    with pytest.raises(ConfigError, match=r"no kind 'xlm-robert'.*xlm-roberta"):
        registry.from_json({**values, "text": {**values["text"], "kind": "xlm-robert"}})
    with pytest.raises(ConfigError, match="no field 'eos_id'"):
        registry.from_json({**values, "text": {**values["text"], "eos_id": 2}})
    task = CLIPTask(model=config)
    assert dump.from_json(dump.to_json(task)) == task
    assert overrides.apply(task, ["model.text.length=12"]).model.text.length == 12


def test_operations_are_those_of_a_tower_without_a_causal_mask():
    config = tiny(projection="mlp", depth=1, width=256, hidden=1024)
    layer = 8 * LENGTH * 256**2 + 4 * LENGTH**2 * 256 + 4 * LENGTH * 256 * 1024
    head = 2 * 144 * (256 + 32)
    assert forward_flops(config)["text"] == layer + head
    graphdef, state = nnx.split(abstract_module(lambda rngs: CLIP(config, rngs=rngs)))
    ids = jax.ShapeDtypeStruct((4, LENGTH), jnp.int32)
    forward = jax.jit(lambda params, ids: nnx.merge(graphdef, params).encode_text(ids))
    counted = forward.lower(nnx.as_pure(state), ids).compile().cost_analysis()["flops"] / 4
    assert np.isclose(counted, layer + head, rtol=0.1)


@OVER_MESHES
def test_two_updates_over_a_mesh_equal_those_of_one_device(mesh):
    task = CLIPTask(model=tiny(projection="mlp", remat="full"))
    rng = np.random.default_rng(1)
    batch = {
        "image": rng.integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8),
        "text": texts(*rng.integers(3, LENGTH + 1, ROWS)),
    }
    on_one = two_updates(task, batch, MeshConfig(data=1))
    assert_equal(two_updates(task, batch, MESHES[mesh]), on_one)
