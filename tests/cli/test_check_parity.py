"""`kmm check-parity`: equal models are called equal, and every kind of difference is found."""

import dataclasses
import importlib
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from kmm_jax.cli import main
from kmm_jax.data.augment import resize_centre
from kmm_jax.errors import UserError
from kmm_jax.inference import load
from kmm_jax.inference.parity import TEXTS, check_parity, open_other
from kmm_jax.interop import native
from kmm_jax.interop.conversion import export_weights, import_weights
from kmm_jax.text.adopted import openai_bpe, swapped, translated
from tests import references
from tests.interop.conftest import MERGES, VOCABULARY
from tests.interop.test_conversion import small_clip
from tools.parity import originals

SIZES = originals.Sizes(
    image_size=32, patch_size=8, width=64, depth=2, heads=2, text_width=64, text_depth=2,
    text_heads=2, embedding=24, vocabulary=VOCABULARY, length=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A CLIPModel as transformers saves it, its import, and pictures that are not square."""
    references.open_clip()  # makes torchvision importable, which CLIPModel imports
    transformers = pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("parity")
    originals.hf_clip(SIZES).module.save_pretrained(root / "hf")
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(root / "hf")
    (root / "hf" / "tokenizer.json").write_text(openai_bpe(MERGES), "utf-8")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "!"}
    (root / "hf" / "special_tokens_map.json").write_text(json.dumps(marks), "utf-8")
    native.save(root / "ours", import_weights(root / "hf")[0])
    (root / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate([(70, 41), (40, 63), (90, 90)]):
        noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        noise.resize(size, Image.Resampling.BICUBIC).save(root / "photos" / f"사진{number}.png")
    (root / "photos" / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def model(folders):
    """The import, compiled once."""
    return load(folders / "ours")


@pytest.fixture(scope="module")
def images(folders):
    return sorted((folders / "photos").glob("*.png"))


def parity(folders, capsys, original="hf", *options, model="ours"):
    arguments = [str(folders / model), str(folders / original), str(folders / "photos")]
    code = main(["check-parity", *arguments, "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def changed(folders, tmp_path, change):
    """A copy of the original with other tensors."""
    copy = tmp_path / "changed"
    shutil.copytree(folders / "hf", copy)
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def test_an_import_equals_its_original(folders, capsys):
    code, found = parity(folders, capsys)
    assert code == 0 and found["within"]
    assert found["image"]["rows"] == 3 and found["text"]["rows"] == len(TEXTS)
    for side in ("image", "text"):
        assert found[side]["error"] < 2e-5
        assert found[side]["least_cosine"] > 1 - 1e-6
    assert found["temperature"] == pytest.approx(np.exp(-2.5))
    assert found["temperature_error"] < 1e-6
    assert found["largest_divergence"] < 1e-8
    assert found["top1"] == found["topk"] == 1 and found["k"] == 5


def test_people_read_a_verdict(folders, capsys):
    arguments = [str(folders / name) for name in ("ours", "hf")]
    assert main(["check-parity", *arguments, str(folders / "photos" / "사진0.png")]) == 0
    printed = capsys.readouterr().out
    assert "CLIPModel of transformers" in printed and "the same pixels" in printed
    assert printed.endswith("\nequal within 0.0001, relative to the largest value\n")


def test_exports_of_both_layouts_equal_the_model_and_each_other(tmp_path, folders, capsys):
    exported = small_clip(pooling="eos", eos_id=2)
    native.save(tmp_path / "ours", exported)
    export_weights(tmp_path / "hf", exported, "hf-clip")
    export_weights(tmp_path / "oc", exported, "open-clip")
    shutil.copytree(folders / "photos", tmp_path / "photos")
    for original in ("hf", "oc", "ours"):
        code, found = parity(tmp_path, capsys, original)
        assert code == 0 and found["image"]["error"] < 2e-5 and found["text"]["error"] < 2e-5


def test_an_import_of_open_clips_coca_equals_it(tmp_path, folders, images):
    wide = dataclasses.replace(SIZES, text_width=128, embedding=128)
    original = originals.open_clip_coca(wide, decoder_depth=1, queries=6, pooler_heads=4)
    original.save(tmp_path / "oc", name="open_clip_model")
    for name in ("tokenizer.json", "special_tokens_map.json"):
        shutil.copy(folders / "hf" / name, tmp_path / "oc")
    native.save(tmp_path / "ours", import_weights(tmp_path / "oc")[0])
    found = check_parity(load(tmp_path / "ours"), open_other(tmp_path / "oc"), images)
    assert "CoCa of open_clip" in found.original
    assert found.within and max(found.image.error, found.text.error) < 2e-5


def test_a_model_that_computes_in_bfloat16_is_compared_in_float32(tmp_path, folders, capsys):
    exported = import_weights(folders / "hf")[0]
    config = dataclasses.replace(exported.config, dtype="bfloat16")
    native.save(tmp_path / "ours", dataclasses.replace(exported, config=config))
    arguments = [str(tmp_path / "ours"), str(folders / "hf"), str(folders / "photos")]
    assert main(["check-parity", *arguments]) == 0


def swap(one, other):
    def change(tensors):
        tensors[one], tensors[other] = tensors[other], tensors[one]

    return change


def hotter(tensors):
    tensors["logit_scale"] = np.asarray(tensors["logit_scale"] + np.float32(0.01))


def broken(tensors):
    tensors["visual_projection.weight"] = np.full_like(tensors["visual_projection.weight"], np.nan)


LAYER = "{tower}.encoder.layers.{number}.{name}.weight"


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (
            swap(
                *(LAYER.format(tower="vision_model", number=0, name=f"self_attn.{name}_proj")
                  for name in "qk")
            ),
            "image",
        ),
        (
            swap(
                *(LAYER.format(tower="text_model", number=number, name="mlp.fc1")
                  for number in (0, 1))
            ),
            "text",
        ),
        (hotter, "temperature"),
        (broken, "image"),
    ],
)  # fmt: skip
def test_other_weights_are_found_where_they_are(folders, model, images, tmp_path, change, differs):
    found = check_parity(model, open_other(changed(folders, tmp_path, change)), images)
    errors = {
        "image": found.image.error,
        "text": found.text.error,
        "temperature": found.temperature_error,
    }
    assert not found.within
    assert {name for name, error in errors.items() if not error <= 1e-4} == {differs}
    if change is not broken and differs != "temperature":
        assert getattr(found, differs).least_cosine < 0.999
        assert found.largest_divergence > 1e-4


def test_the_exit_code_says_whether_the_tolerance_holds(folders, tmp_path, capsys):
    other = changed(folders, tmp_path, hotter)
    code, found = parity(folders, capsys, other)
    assert code == 1 and not found["within"]
    code, found = parity(folders, capsys, other, "--tolerance", "0.1")
    assert code == 0 and found["temperature_error"] == pytest.approx(1 - np.exp(-0.01), rel=1e-3)


def test_an_exchanged_tokenizer_is_found(folders, tmp_path, capsys):
    exported = import_weights(folders / "hf")[0]
    one, other = (exported.tokenizer.encode(word)[0] for word in ("cat", "dog"))
    tokenizer = swapped(exported.tokenizer, one, other)
    native.save(tmp_path / "ours", dataclasses.replace(exported, tokenizer=tokenizer))
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat\n\nno pets\n", "utf-8")
    code, found = parity(folders, capsys, "hf", "--texts", str(texts), model=tmp_path / "ours")
    assert code == 1 and found["image"]["error"] < 2e-5
    assert found["text"]["rows"] == 2 and found["text"]["worst"] == "a cat"


def test_its_own_preprocessing_shows_the_originals_resize(folders, capsys):
    code, found = parity(folders, capsys, "hf", "--own-preprocessing")
    assert code == 1 and found["own_preprocessing"]
    assert 1e-4 < found["image"]["error"] < 0.5 and found["image"]["least_cosine"] > 0.9
    assert found["text"]["error"] < 2e-5


def test_what_is_counted_of_the_softmax_is_what_torch_counts(folders, model, images, tmp_path):
    torch = importlib.import_module("torch")
    change = swap(
        *(LAYER.format(tower="vision_model", number=0, name=f"self_attn.{n}_proj") for n in "qk")
    )
    other = open_other(changed(folders, tmp_path, change))
    found = check_parity(model, other, images)
    pixels = np.stack([resize_centre(Image.open(image), 32) for image in images])
    theirs = other.image(pixels), other.text(model.tokenizer.sequences(list(TEXTS), None, 12))
    ours = model.embed_image(images), model.embed_text(TEXTS, None)
    p, q = (
        torch.from_numpy(scale * image @ text.T)
        for scale, (image, text) in ((other.logit_scale, theirs), (model.logit_scale, ours))
    )
    divergence = torch.nn.functional.kl_div(
        q.log_softmax(1), p.log_softmax(1), log_target=True, reduction="none"
    ).sum(1)
    assert found.mean_divergence == pytest.approx(float(divergence.mean()), rel=1e-3)
    assert found.top1 == pytest.approx(float((p.argmax(1) == q.argmax(1)).float().mean()))
    both = [
        len(set(a.tolist()) & set(b.tolist())) / 5
        for a, b in zip(p.topk(5).indices, q.topk(5).indices, strict=True)
    ]
    assert found.topk == pytest.approx(np.mean(both))


def refused(capsys, *arguments):
    """What is said in one line, with exit code 2."""
    capsys.readouterr()
    assert main(["check-parity", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.startswith("kmm check-parity: ") and printed.err.count("\n") == 1
    return printed.err


def test_mistakes_are_said_in_one_line(folders, tmp_path, capsys):
    ours, hf, photos = (folders / name for name in ("ours", "hf", "photos"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "글.jpg").write_text("글")
    assert "gone.jpg is not there" in refused(capsys, ours, hf, "gone.jpg")
    assert "holds no pictures" in refused(capsys, ours, hf, tmp_path / "empty")
    assert "글.jpg: not an image" in refused(capsys, ours, hf, tmp_path / "글.jpg")
    assert "no folder" in refused(capsys, ours, tmp_path / "gone", photos)
    assert "no .safetensors" in refused(capsys, ours, tmp_path / "empty", photos)
    assert "no exported model" in refused(capsys, tmp_path / "empty", hf, photos)
    assert "tolerance" in refused(capsys, ours, hf, photos, "--tolerance", "0")
    for texts, said in (("gone.txt", "No such file"), ("empty.txt", "no text"),
                        ("latin.txt", "UTF-8")):  # fmt: skip
        assert said in refused(capsys, ours, hf, photos, "--texts", tmp_path / texts)


def test_models_that_cannot_be_compared_are_refused(folders, tmp_path, capsys):
    ours, hf, photos = (folders / name for name in ("ours", "hf", "photos"))
    tensors = load_file(hf / "model.safetensors")
    alone = tmp_path / "text"
    alone.mkdir()
    save_file(
        {name: value for name, value in tensors.items() if name.startswith("text_")},
        alone / "model.safetensors",
    )
    (alone / "config.json").write_text('{"model_type": "clip_text_model"}')
    assert "is a text encoder" in refused(capsys, ours, alone, photos)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text('{"model_type": "clip"}')
    (pickled / "pytorch_model.bin").write_bytes(b"")
    assert "holds no .safetensors" in refused(capsys, ours, pickled, photos)
    other = originals.hf_clip(dataclasses.replace(SIZES, image_size=40))
    other.module.save_pretrained(tmp_path / "larger")
    assert "pictures of 32 pixels" in refused(capsys, ours, tmp_path / "larger", photos)
    other = originals.hf_clip(dataclasses.replace(SIZES, embedding=32))
    other.module.save_pretrained(tmp_path / "wider")
    assert "vectors of 24 numbers" in refused(capsys, ours, tmp_path / "wider", photos)


@pytest.mark.parametrize(("module", "extra"), [("torch", "test"), ("transformers", "interop")])
def test_without_pytorch_or_transformers_their_extra_is_named(
    folders, capsys, monkeypatch, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    said = refused(capsys, folders / "ours", folders / "hf", folders / "photos")
    assert module in said and f"kmm-jax[{extra}]" in said


def test_tokens_are_translated_by_their_letters(folders):
    tokenizer = import_weights(folders / "hf")[0].tokenizer
    other = swapped(tokenizer, 3, 7)
    ids = np.asarray([[3, 7, 5], [5, 5, 3]])
    np.testing.assert_array_equal(translated(ids, tokenizer, other), [[7, 3, 5], [5, 5, 7]])
    with pytest.raises(UserError, match="do not belong together"):
        translated(ids, tokenizer, small_clip().tokenizer)
