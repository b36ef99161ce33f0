"""Depths of parameters against the layers they are written down for, one by one."""

import jax
from flax import nnx

from kmm_jax.models import registry
from kmm_jax.models.depth import heights
from kmm_jax.models.keys import abstract_module
from tests.tiny_models import tiny_coca


def of(config):
    module = abstract_module(lambda rngs: registry.build(config, rngs=rngs))
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.as_pure(nnx.state(module))))
    return heights(
        {jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in leaves}
    )


def test_each_tower_of_a_clip_has_its_own_depth():
    found = of(registry.preset("clip-tiny"))  # 4 layers of images, 2 of texts
    assert found.pop("vision/blocks/layers/mlp/up/kernel") == (4, 3, 2, 1)
    assert found.pop("text/blocks/layers/attention_norm/scale") == (2, 1)
    rest = {path: steps for path, steps in found.items() if "/layers/" not in path}
    assert {path for path, steps in rest.items() if steps == (0,)} == {
        "image_projection/kernel", "text_projection/kernel", "log_scale",
        "vision/norm/bias", "vision/norm/scale", "text/norm/bias", "text/norm/scale",
    }  # fmt: skip
    assert {path for path, steps in rest.items() if steps == (3,)} == {
        "text/embedding/positions", "text/embedding/tokens/embedding",
    }  # fmt: skip
    lowest = {path.split("/")[1] for path, steps in rest.items() if steps == (5,)}
    assert lowest == {"patch_embedding", "positions", "class_embedding"}


def test_the_halves_of_a_decoder_follow_each_other():
    found = of(tiny_coca(vocabulary=50, length=8, half=2))
    assert found["text/unimodal/layers/mlp/up/kernel"] == (4, 3)
    assert found["text/multimodal/layers/cross_attention/key/bias"] == (2, 1)
    assert found["text/embedding/tokens/embedding"] == (5,)
    assert found["text/norm/scale"] == found["generative_pooler/queries"] == (0,)
    assert found["text/cls_norm/scale"] == found["vision/norm/scale"] == (0,)


def test_a_clip_within_a_slip_is_counted_as_a_clip():
    clip, slip = of(registry.preset("clip-tiny")), of(registry.preset("slip-tiny"))
    for path, steps in slip.items():
        expected = (0,) if path.startswith("view_head/") else clip[path.removeprefix("clip/")]
        assert steps == expected, path


def test_both_inputs_of_one_tower_lie_below_its_layers():
    config = registry.preset("oner-tiny")
    found, depth = of(config), config.tower.depth
    assert found["blocks/layers/mlp/up/kernel"] == tuple(range(depth, 0, -1))
    for path in ("vision/positions", "text/tokens/embedding", "types", "input_norm/scale"):
        assert found[path] == (depth + 1,), path
    assert {steps for path, steps in found.items() if path.startswith("head/")} == {(0,)}


def test_openais_norm_before_the_first_layer_is_an_input():
    assert of(registry.preset("clip-b32"))["vision/pre_norm/scale"] == (13,)
