"""The tools that take weights in and give them out, on the command line."""

import numpy as np
import pytest

import kmm_jax
from kmm_jax.inference import programs
from tests import references
from tests.interop.conftest import VOCABULARY, openai_tokenizer  # noqa: F401 - a fixture
from tools import convert_pickle, export_checkpoint, import_checkpoint
from tools.parity import originals

SIZES = originals.Sizes(
    image_size=16, patch_size=8, width=64, depth=1, heads=1, text_width=64, text_depth=1,
    text_heads=1, embedding=16, vocabulary=VOCABULARY, length=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def pickled(tmp_path_factory):
    """OpenAI's form as a training script leaves it."""
    references.open_clip()
    import torch

    original = originals.open_clip(SIZES, quick_gelu=True, says=False)
    state = {f"module.{name}": value for name, value in original.module.state_dict().items()}
    file = tmp_path_factory.mktemp("pickled") / "last.pt"
    torch.save({"epoch": 3, "optimizer": {"lr": [0.1]}, "state_dict": state}, file)
    return original, file


def test_from_a_pickle_to_a_model_and_out_again(pickled, openai_tokenizer, tmp_path, capsys):  # noqa: F811
    original, file = pickled
    plain, model, out = tmp_path / "w.safetensors", tmp_path / "model", tmp_path / "out"
    assert convert_pickle.main([str(file), "--output", str(plain)]) == 0
    words = [str(plain), "--output", str(model), "--tokenizer", str(openai_tokenizer)]
    assert import_checkpoint.main(words) == 2
    assert "--activation quick_gelu" in capsys.readouterr().err
    assert import_checkpoint.main([*words, "--activation", "quick_gelu"]) == 0
    assert "CLIP of OpenAI" in capsys.readouterr().out

    loaded = kmm_jax.load(model)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    ids = loaded.tokenizer.sequences(["cat", "Dog cat", "!"], None, 8)
    expected = original.outputs(pixels, ids)
    np.testing.assert_allclose(loaded.embed_image(list(pixels)), expected["image"], atol=1e-5)
    texts = loaded.embed_text(["cat", "Dog cat", "!"])
    np.testing.assert_allclose(texts, expected["text"], atol=1e-5)

    for layout in ("kmm_jax", "open-clip", "hf-clip"):
        words = [str(model), "--output", str(out / layout), "--to", layout]
        assert export_checkpoint.main(words) == 0, layout
    assert kmm_jax.load(out / "kmm_jax").hash == loaded.hash
    words = [str(model), "--output", str(out / "programs"), "--to", "stablehlo"]
    assert export_checkpoint.main([*words, "--platforms", "cpu"]) == 0
    found = programs.load(out / "programs")["image"](pixels)
    np.testing.assert_allclose(found, expected["image"], atol=1e-5)
    assert export_checkpoint.main([str(model), "--output", str(out / "x"), "--to", "slip"]) == 2
    assert "timm" in capsys.readouterr().err
    assert not (out / "x").exists()


class Harmful:
    """What a pickle may hold: a call that is made when it is read."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (self.file, "w")


def test_a_pickle_that_would_run_something_is_refused(tmp_path, capsys):
    references.open_clip()
    import torch

    torch.save({"weight": torch.ones(2), "more": Harmful(str(tmp_path / "ran"))}, tmp_path / "a.pt")
    words = [str(tmp_path / "a.pt"), "--output", str(tmp_path / "a.safetensors")]
    assert convert_pickle.main(words) == 2
    assert "more than tensors" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "a.safetensors").exists()


def test_mistakes_are_said(pickled, tmp_path, capsys):
    _, file = pickled
    for words, said in (
        ([str(tmp_path / "no.pt"), "--output", str(tmp_path / "a.safetensors")], "no file"),
        ([str(file), "--output", str(tmp_path / "a.bin")], "name it .safetensors"),
    ):
        assert convert_pickle.main(words) == 2
        assert said in capsys.readouterr().err
    broken = tmp_path / "broken.pt"
    broken.write_bytes(file.read_bytes()[:500])
    words = [str(broken), "--output", str(tmp_path / "a.safetensors")]
    assert convert_pickle.main(words) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert import_checkpoint.main([str(file), "--output", str(tmp_path / "m")]) == 2
    assert "tools.convert_pickle" in capsys.readouterr().err
