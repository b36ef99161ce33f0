"""Weights in and out as files: what other libraries load, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from kmm_jax.errors import DataError, UserError
from kmm_jax.interop import native
from kmm_jax.interop.conversion import export_weights, import_weights
from kmm_jax.interop.families.base import Hints
from kmm_jax.interop.weights import open_weights, write_weights
from kmm_jax.models import registry
from kmm_jax.models.clip.config import clip_b32, clip_tiny
from kmm_jax.text.tokenizer import Tokenizer
from tests import references
from tests.interop.conftest import VOCABULARY
from tools.parity import compare, originals

KOREAN = ["빨간 원피스", "파란 가방을 든 사람", "a red dress", "운동화 42"] * 9


def small_clip(**text):
    """OpenAI's form, with a tokenizer of ours."""
    words = Tokenizer.train(KOREAN, vocab_size=330)
    config = clip_b32(vocabulary=340, image_size=32, activation="quick_gelu")
    config = dataclasses.replace(
        config,
        vision=dataclasses.replace(
            config.vision, patch_size=8, width=64, depth=2, heads=1, hidden=256
        ),
        text=dataclasses.replace(
            config.text, length=12, width=64, depth=2, heads=1, hidden=256, **text
        ),
        embedding=32,
        dtype="float32",
    )
    module = registry.build(config, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))
    rng = np.random.default_rng(0)
    noisy = {
        name: np.asarray(value + 0.05 * rng.normal(size=value.shape), np.float32)
        for name, value in native.flatten(params).items()
    }
    return native.Exported(
        config=config, params=native.unflatten(noisy), tokenizer=words, styled=False
    )


@pytest.fixture(scope="module")
def exported():
    return small_clip()


@pytest.fixture(scope="module")
def vectors(exported):
    """Ours, of pictures and Korean texts."""
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    ids = exported.tokenizer.sequences(KOREAN[:4], None, 12)
    return pixels, compare.outputs(exported, pixels, ids, logits=False)


def torch_images(pixels, config):
    import torch

    scaled = (pixels / 255 - np.asarray(config.vision.mean)) / np.asarray(config.vision.std)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def unit(x):
    x = getattr(x, "pooler_output", x).detach().numpy()
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_transformers_loads_a_model_of_ours_with_its_tokenizer(exported, vectors, tmp_path):
    references.open_clip()  # makes torchvision importable, which CLIPModel imports
    transformers = pytest.importorskip("transformers")
    export_weights(tmp_path / "hf", exported, "hf-clip")
    model, report = transformers.CLIPModel.from_pretrained(
        str(tmp_path / "hf"), output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
    words = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "hf"))
    batch = words(
        KOREAN[:4], padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    )
    pixels, ours = vectors
    images = torch_images(pixels, exported.config)
    model.eval()
    image = unit(model.get_image_features(pixel_values=images))
    text = unit(model.get_text_features(input_ids=batch["input_ids"]))
    np.testing.assert_allclose(ours["image"], image, atol=1e-5)
    np.testing.assert_allclose(ours["text"], text, atol=1e-5)
    processor = transformers.AutoImageProcessor.from_pretrained(str(tmp_path / "hf"))
    prepared = processor(list(pixels), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(prepared, images.numpy(), atol=1e-5)


def test_open_clip_loads_a_model_of_ours(exported, vectors, tmp_path):
    open_clip = references.open_clip()
    import torch

    export_weights(tmp_path / "oc", exported, "open-clip")
    model = open_clip.create_model(f"local-dir:{tmp_path / 'oc'}").eval()
    ids = exported.tokenizer.sequences(KOREAN[:4], None, 12).astype(np.int64)
    pixels, ours = vectors
    images = torch_images(pixels, exported.config)
    with torch.no_grad():
        np.testing.assert_allclose(ours["image"], unit(model.encode_image(images)), atol=1e-5)
        text = unit(model.encode_text(torch.from_numpy(ids)))
    np.testing.assert_allclose(ours["text"], text, atol=1e-5)


@pytest.mark.parametrize("family", ["hf-clip", "open-clip"])
def test_out_and_in_again_it_is_the_same_model(exported, vectors, tmp_path, family):
    export_weights(tmp_path / "out", exported, family)
    again, kind = import_weights(tmp_path / "out")
    assert kind.name == family
    assert again.config.vision == exported.config.vision
    pixels, ours = vectors
    ids = again.tokenizer.sequences(KOREAN[:4], None, 12)
    found = compare.outputs(again, pixels, ids, logits=False)
    for name, expected in ours.items():
        np.testing.assert_allclose(found[name], expected, atol=1e-6)


def test_bfloat16_weights_are_read(exported, tmp_path):
    export_weights(tmp_path / "out", exported, "hf-clip", dtype="bfloat16")
    again, _ = import_weights(tmp_path / "out")
    before, after = native.flatten(exported.params), native.flatten(again.params)
    name = "vision.blocks.layers.mlp.up.kernel"
    assert after[name].dtype == np.float32
    np.testing.assert_allclose(after[name], before[name], rtol=1 / 128)


def test_weights_in_parts_are_the_same_weights(openai_tokenizer, tmp_path):
    references.open_clip()
    original = originals.open_clip(
        originals.Sizes(
            image_size=16, patch_size=8, width=64, depth=2, heads=1, text_width=64, text_depth=1,
            text_heads=1, embedding=16, vocabulary=VOCABULARY, length=8,
        )
    )  # fmt: skip
    original.save(tmp_path / "whole")
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    parts = tmp_path / "parts"
    parts.mkdir()
    files = write_weights(parts, whole.items(), part_bytes=100_000)
    assert len(files) > 2
    assert max(file.stat().st_size for file in files) < 300_000
    (parts / "open_clip_config.json").write_text(
        json.dumps(original.files["open_clip_config.json"])
    )
    one, _ = import_weights(tmp_path / "whole", tokenizer=openai_tokenizer)
    several, _ = import_weights(parts, tokenizer=openai_tokenizer)
    index, _ = import_weights(parts / "model.safetensors.index.json", tokenizer=openai_tokenizer)
    assert one.hash == several.hash == index.hash
    files[1].unlink()
    with pytest.raises(DataError, match="is not there"):
        open_weights(parts)
    save_file({"other": np.zeros(1)}, files[1])
    with pytest.raises(DataError, match="has no tensor"):
        open_weights(parts)


def test_pickles_are_refused_with_the_way_out(tmp_path):
    for name in ("model.pt", "pytorch_model.bin", "weights.pth", "last.ckpt"):
        (tmp_path / name).write_bytes(b"\x80\x04")
        with pytest.raises(UserError, match=r"never loaded.*tools\.convert_pickle"):
            open_weights(tmp_path / name)
    with pytest.raises(UserError, match=r"holds no \.safetensors.*tools\.convert_pickle"):
        open_weights(tmp_path)


def test_damage_is_named(exported, tmp_path):
    export_weights(tmp_path / "out", exported, "hf-clip")
    file = tmp_path / "out" / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        import_weights(tmp_path / "out")
    named = load_file_of(whole, tmp_path)
    del named["visual_projection.weight"]
    named["stranger"] = np.zeros(3, np.float32)
    named["visual_projection.weights"] = np.zeros((32, 64), np.float32)
    save_file(named, file)
    with pytest.raises(DataError, match=r"has no tensor visual_projection\.weight"):
        import_weights(tmp_path / "out")
    named["visual_projection.weight"] = named.pop("visual_projection.weights")
    save_file(named, file)
    with pytest.raises(DataError, match="not known stranger"):
        import_weights(tmp_path / "out")
    del named["stranger"]
    named["text_projection.weight"] = np.zeros((32, 65), np.float32)
    save_file(named, file)
    with pytest.raises(DataError, match=r"text_projection.weight has the shape \(32, 65\)"):
        import_weights(tmp_path / "out")


def load_file_of(content, tmp_path):
    (tmp_path / "whole.safetensors").write_bytes(content)
    return load_file(tmp_path / "whole.safetensors")


def test_unknown_weights_and_a_missing_activation_are_said(exported, tmp_path):
    save_file({"conv.weight": np.zeros((3, 3), np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"none of the weights.*conv\.weight"):
        import_weights(tmp_path / "other.safetensors")
    export_weights(tmp_path / "out", exported, "open-clip")
    (tmp_path / "out" / "open_clip_config.json").unlink()
    with pytest.raises(UserError, match="--activation quick_gelu"):
        import_weights(tmp_path / "out")
    again, _ = import_weights(tmp_path / "out", hints=Hints(activation="quick_gelu"))
    assert again.config.vision.activation == "quick_gelu"


def test_a_tokenizer_of_another_model_is_refused(exported, tmp_path, openai_tokenizer):
    export_weights(tmp_path / "out", exported, "hf-clip")
    with pytest.raises(UserError, match="do not belong together"):
        import_weights(tmp_path / "out", tokenizer=openai_tokenizer)


def test_what_a_layout_cannot_hold_is_refused(exported, tmp_path):
    tiny = clip_tiny(vocabulary=330, image_size=16)
    for family, reason in (
        ("hf-clip", "linear patch"),
        ("slip", "timm"),
        ("kelip", "its own code"),
    ):
        with pytest.raises(UserError, match=reason):
            other = dataclasses.replace(exported, config=tiny)
            export_weights(tmp_path / "out", other, family)
    with pytest.raises(UserError, match=r"no family of weights 'hf_clip'.*hf-clip"):
        export_weights(tmp_path / "out", exported, "hf_clip")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("important")
    with pytest.raises(UserError, match="is no export"):
        export_weights(tmp_path / "mine", exported, "hf-clip")
    assert not (tmp_path / "out").exists()


def test_an_export_may_be_replaced_by_the_next(exported, tmp_path):
    export_weights(tmp_path / "out", exported, "hf-clip")
    export_weights(tmp_path / "out", exported, "open-clip")
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {"open_clip_model.safetensors"}
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_field_that_comes_later_changes_no_models_hash(exported):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Later(type(exported.config)):
        invented: int = 3

    fields = {
        field.name: getattr(exported.config, field.name)
        for field in dataclasses.fields(exported.config)
    }
    for changes, same in (({}, True), ({"invented": 4}, False), ({"embedding": 33}, False)):
        later = dataclasses.replace(exported, config=Later(**{**fields, **changes}))
        assert (later.hash == exported.hash) == same, changes
