"""XLM-RoBERTa's weights as files: beside a CLIP, back to other libraries, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import kmm_jax
from kmm_jax.errors import UserError
from kmm_jax.interop import native
from kmm_jax.interop.conversion import export_weights, import_weights
from kmm_jax.interop.families import FAMILIES
from kmm_jax.interop.families.base import Hints
from kmm_jax.models import registry
from kmm_jax.models.clip.config import clip_xlmr_b32
from kmm_jax.models.keys import abstract_module
from tests import references
from tests.interop.conftest import KOREAN, UNIGRAM_VOCABULARY
from tools import import_checkpoint
from tools.parity import compare, multilingual, originals

SIZES = originals.Sizes(
    image_size=16, patch_size=8, width=64, depth=1, heads=1, text_width=128, text_depth=2,
    text_heads=2, embedding=24, vocabulary=UNIGRAM_VOCABULARY, length=12,
)  # fmt: skip
HINTS = Hints(length=SIZES.length)


@pytest.fixture(scope="module")
def mclip(tmp_path_factory, unigram_tokenizer):
    """M-CLIP's folder as its authors leave it, with its tokenizer and the pooler that comes along;
    and a CLIP of OpenAI's form in it, as ``image``."""
    references.open_clip()
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("m-clip")
    clip = dataclasses.replace(SIZES, text_width=64, text_heads=1, vocabulary=518)
    original = multilingual.m_clip(SIZES, beside=originals.open_clip(clip))
    original.save(folder)
    file = folder / "model.safetensors"
    tensors = {
        **load_file(file),
        "transformer.pooler.dense.weight": np.ones((128, 128), np.float32),
        "transformer.pooler.dense.bias": np.ones(128, np.float32),
        "transformer.embeddings.position_ids": np.arange(514)[None],
    }
    save_file(tensors, file)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(unigram_tokenizer / name, folder)
    return original, folder


@pytest.fixture(scope="module")
def exported(mclip):
    _, folder = mclip
    return import_weights(folder, image=folder / "image", hints=HINTS)[0]


def test_the_images_and_the_logit_scale_are_the_clips(mclip, exported):
    original, _ = mclip
    params = native.flatten(exported.params)
    state = original.beside.state()
    np.testing.assert_array_equal(params["log_scale"], state["logit_scale"])
    np.testing.assert_array_equal(params["image_projection.kernel"], state["visual.proj"])
    assert exported.config.vision.mean == original.mean
    assert params.keys() == native.parameter_shapes(exported.config).keys()
    assert (exported.config.text.pooling, exported.config.text.length) == ("mean", 12)


def test_the_command_makes_a_model_that_embeds(mclip, tmp_path, capsys):
    original, folder = mclip
    output = tmp_path / "model"
    arguments = [str(folder), "--image", str(folder / "image"), "--output", str(output)]
    assert import_checkpoint.main([*arguments, "--length", "12"]) == 0
    assert "M-CLIP" in capsys.readouterr().out
    values = json.loads((output / "config.json").read_text("utf-8"))
    assert values["model"]["text"]["kind"] == "xlm-roberta"
    model = kmm_jax.load(output)
    vectors = model.embed_text(KOREAN)
    picture = np.zeros((16, 16, 3), np.uint8)
    assert model.heat_map([picture], KOREAN[:1]).shape == (1, 2, 2)
    ids = model.tokenizer.sequences(KOREAN, None, 12)
    theirs = original.outputs(picture[None], ids)["text"]
    np.testing.assert_allclose(vectors, theirs, atol=2e-6)


@pytest.fixture(scope="module")
def bare(tmp_path_factory, unigram_tokenizer):
    """An XLMRobertaForMaskedLM of transformers, and its encoder saved alone."""
    references.open_clip()
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bare")
    model = transformers.XLMRobertaForMaskedLM(multilingual.tower_config(SIZES))
    originals.randomised(model)
    model.save_pretrained(folder / "with head")
    model.roberta.save_pretrained(folder / "alone")
    for kind in ("with head", "alone"):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(unigram_tokenizer / name, folder / kind)
    return model.roberta, folder


def test_a_bare_encoder_begins_a_clip_with_a_fresh_projection(mclip, bare):
    import torch

    encoder, folder = bare
    image = mclip[1] / "image"
    one, kind = import_weights(folder / "alone", image=image, hints=HINTS)
    other, _ = import_weights(folder / "with head", image=image, hints=HINTS)
    assert kind.name == "xlm-roberta" and one.hash == other.hash
    ids = one.tokenizer.sequences(KOREAN, None, 12)
    with torch.no_grad():
        expected = multilingual.mean_of_tokens(encoder, torch.from_numpy(ids.astype(np.int64)))
    module = abstract_module(lambda rngs: registry.build(one.config, rngs=rngs))
    model = nnx.merge(nnx.graphdef(module), one.params)
    found = model.text(jnp.asarray(ids))
    assert compare.error(np.asarray(found), expected.numpy()) < 2e-5
    kernel = native.flatten(one.params)["text_projection.kernel"]
    assert kernel.shape == (128, 24) and 0.5 < kernel.std() * 128**0.5 < 1.5


def test_transformers_loads_the_tower_of_a_model_of_ours(exported, tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch

    export_weights(tmp_path / "out", exported, "xlm-roberta")
    tower, report = transformers.AutoModel.from_pretrained(
        str(tmp_path / "out"), add_pooling_layer=False, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
    words = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    batch = words(KOREAN, padding="max_length", max_length=12, return_tensors="pt")
    with torch.no_grad():
        pooled = multilingual.mean_of_tokens(tower.eval(), batch["input_ids"]).numpy()
    flat = native.flatten(exported.params)
    vectors = pooled @ flat["text_projection.kernel"] + flat["text_projection.bias"]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pixels, ids = np.zeros((4, 16, 16, 3), np.uint8), batch["input_ids"].numpy()
    ours = compare.outputs(exported, pixels, ids.astype(np.int32), logits=False)
    np.testing.assert_allclose(ours["text"], vectors, atol=2e-6)


@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_open_clip_loads_a_model_of_ours_with_its_tokenizer(exported, tmp_path, projection):
    open_clip = references.open_clip()
    import torch

    text = dataclasses.replace(exported.config.text, projection=projection)
    config = dataclasses.replace(exported.config, text=text)
    rng = np.random.default_rng(0)
    flat = {
        name: np.asarray(rng.normal(size=shape) * shape[0] ** -0.5, np.float32)
        for name, shape in native.parameter_shapes(config).items()
        if name.startswith("text_projection")
    }
    kept = native.flatten(exported.params)
    kept = {name: value for name, value in kept.items() if not name.startswith("text_projection")}
    ours = dataclasses.replace(exported, config=config, params=native.unflatten({**kept, **flat}))
    export_weights(tmp_path / "oc", ours, "open-clip-xlm-roberta")
    model = open_clip.create_model(f"local-dir:{tmp_path / 'oc'}").eval()
    words = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'oc'}")
    ids = ours.tokenizer.sequences(KOREAN, None, 12)
    assert words(KOREAN).tolist() == ids.tolist()
    pixels = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    scaled = (pixels / 255 - np.asarray(config.vision.mean)) / np.asarray(config.vision.std)
    images = torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))
    found = compare.outputs(ours, pixels, ids, logits=False)
    with torch.no_grad():
        image = model.encode_image(images, normalize=True).numpy()
        theirs = model.encode_text(words(KOREAN), normalize=True).numpy()
    np.testing.assert_allclose(found["image"], image, atol=1e-5)
    np.testing.assert_allclose(found["text"], theirs, atol=1e-5)
    again, kind = import_weights(tmp_path / "oc")
    assert kind.name == "open-clip-xlm-roberta"
    assert again.config.text == text and again.tokenizer == ours.tokenizer


def test_at_published_sizes_the_tower_has_its_name_on_the_hub(exported):
    config = clip_xlmr_b32()
    files = FAMILIES["open-clip-xlm-roberta"].files(config, exported.tokenizer)
    text = files["open_clip_config.json"]["model_cfg"]["text_cfg"]
    assert (text["hf_model_name"], text["hf_proj_type"]) == ("xlm-roberta-base", "mlp")
    biased = dataclasses.replace(config, text=dataclasses.replace(config.text, projection="biased"))
    family = FAMILIES["m-clip"]
    assert family.refuses(biased) is None
    about = family.files(biased, exported.tokenizer)["config.json"]
    assert (about["modelBase"], about["numDims"]) == ("xlm-roberta-base", 512)


def test_a_tower_without_images_or_with_two_is_refused(mclip, exported, tmp_path):
    _, folder = mclip
    with pytest.raises(UserError, match=r"a text tower alone\. Give --image"):
        import_weights(folder, hints=HINTS)
    with pytest.raises(UserError, match="leave --image out"):
        import_weights(folder / "image", image=folder / "image")
    with pytest.raises(UserError, match="has no image tower"):
        import_weights(folder, image=folder, hints=HINTS)
    wider = dataclasses.replace(SIZES, embedding=32, text_width=64, vocabulary=518)
    originals.open_clip(wider).save(tmp_path / "wider")
    with pytest.raises(UserError, match=r"vectors of 24 numbers.* of 32 for images"):
        import_weights(folder, image=tmp_path / "wider", hints=HINTS)


def test_other_networks_of_the_same_names_are_refused(mclip, bare, tmp_path):
    _, folder = mclip
    changes = [
        (folder, "config.json", {"modelBase": "sentence-transformers/LaBSE"}, "an M-CLIP over"),
        (bare[1] / "alone", "config.json", {"model_type": "bert"}, "is a bert by its config"),
        (folder, "tokenizer_config.json", {"pad_token": "<unk>"}, "takes the token 1 for padding"),
    ]
    for number, (source, name, values, said) in enumerate(changes):
        copy = tmp_path / str(number)
        shutil.copytree(source, copy)
        old = json.loads((copy / name).read_text("utf-8"))
        (copy / name).write_text(json.dumps({**old, **values}), "utf-8")
        with pytest.raises(UserError, match=said):
            import_weights(copy, image=folder / "image", hints=HINTS)
    with pytest.raises(UserError, match=r"positions for 512 tokens, fewer than --length 513"):
        import_weights(folder, image=folder / "image", hints=Hints(length=513))


def test_what_open_clip_reads_otherwise_is_refused(unigram_tokenizer, tmp_path):
    references.open_clip()
    pytest.importorskip("transformers")
    original = multilingual.open_clip_xlm_roberta(SIZES)
    about = original.files["open_clip_config.json"]["model_cfg"]
    for pooler in ("cls_pooler", "max_pooler"):
        text = {**about["text_cfg"], "hf_pooler_type": pooler}
        files = {"open_clip_config.json": {"model_cfg": {**about, "text_cfg": text}}}
        dataclasses.replace(original, files=files).save(tmp_path / pooler)
        with pytest.raises(UserError, match=pooler):
            import_weights(tmp_path / pooler, tokenizer=unigram_tokenizer)


def test_layouts_that_cannot_hold_the_tower_say_which_can(exported, tmp_path):
    for family, said in (
        ("hf-clip", "open-clip-xlm-roberta holds"),
        ("open-clip", "open-clip-xlm-roberta holds"),
        ("slip", "timm"),
        ("open-clip-xlm-roberta", "without a bias"),
        ("m-clip", "has other sizes"),
    ):
        with pytest.raises(UserError, match=said):
            export_weights(tmp_path / "out", exported, family)
    assert not (tmp_path / "out").exists()
