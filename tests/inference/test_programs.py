"""The encoders as StableHLO: the same vectors in a process without this library."""

import json
import subprocess
import sys

import numpy as np
import pytest
from flax import nnx

from kmm_jax.errors import DataError, UserError
from kmm_jax.inference import programs
from kmm_jax.inference.model import Model
from kmm_jax.models import registry
from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.models.oner.config import oner_tiny
from kmm_jax.text.tokenizer import Tokenizer
from tests.tiny_models import tiny_coca

TEXTS = ["빨간 원피스", "a red dress", "파란 가방"] * 20

_ELSEWHERE = """
import sys
from jax import export
import numpy as np
from safetensors.numpy import load_file
folder, inputs, output = sys.argv[1:]
params = load_file(f"{folder}/model.safetensors")
rows = np.load(inputs)
found = {}
for name in ("image", "text"):
    program = export.deserialize(bytearray(open(f"{folder}/{name}.stablehlo", "rb").read()))
    found[name] = np.asarray(program.call(params, rows[name]))
np.savez(output, **found)
assert not any(name.startswith("kmm_jax") for name in sys.modules)
"""


def model_of(config):
    module = registry.build(config, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))
    tokenizer = Tokenizer.train(TEXTS, vocab_size=300)
    return Model(config, params, tokenizer, styled=False, hash="0" * 16, path="made here")


CONFIGS = {
    "clip": lambda: clip_tiny(vocabulary=300, image_size=16),
    "coca": lambda: tiny_coca(vocabulary=300, length=12),
    "oner": lambda: oner_tiny(vocabulary=300, image_size=16, text_length=12),
}


@pytest.mark.parametrize("family", list(CONFIGS))
def test_programs_give_the_models_vectors_for_any_batch(family, tmp_path):
    model = model_of(CONFIGS[family]())
    programs.save(tmp_path / "out", model, platforms=("cpu", "cuda"))
    loaded = programs.load(tmp_path / "out")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    ids = model.tokenizer.sequences(TEXTS[:3], None, model.text_length)
    np.testing.assert_allclose(loaded["image"](pixels), model.embed_image(list(pixels)), atol=1e-5)
    np.testing.assert_allclose(loaded["text"](ids), model.embed_text(TEXTS[:3]), atol=1e-5)


def test_a_process_without_this_library_runs_them(tmp_path):
    model = model_of(CONFIGS["clip"]())
    programs.save(tmp_path / "out", model)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    ids = model.tokenizer.sequences(TEXTS[:2], None, model.text_length)
    np.savez(tmp_path / "in.npz", image=pixels, text=ids)
    script = tmp_path / "elsewhere.py"
    script.write_text(_ELSEWHERE)
    subprocess.run(
        [sys.executable, str(script), tmp_path / "out", tmp_path / "in.npz", tmp_path / "out.npz"],
        check=True,
        cwd=tmp_path,
    )
    found = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(found["image"], model.embed_image(list(pixels)), atol=1e-5)
    np.testing.assert_allclose(found["text"], model.embed_text(TEXTS[:2]), atol=1e-5)


def test_damage_and_other_folders_are_refused(tmp_path):
    model = model_of(CONFIGS["clip"]())
    programs.save(tmp_path / "out", model)
    about = json.loads((tmp_path / "out" / "programs.json").read_text())
    assert about["image"]["input"]["shape"] == ["batch", 16, 16, 3]
    programs.save(tmp_path / "out", model)  # an earlier one may be replaced
    weights = tmp_path / "out" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(DataError, match="damaged"):
        programs.load(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("important")
    with pytest.raises(UserError, match="is no folder of programs"):
        programs.save(tmp_path / "mine", model)
    with pytest.raises(DataError, match="holds no programs"):
        programs.load(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").exists()
    with pytest.raises(UserError, match="abacus"):
        programs.save(tmp_path / "out", model, platforms=("abacus",))
