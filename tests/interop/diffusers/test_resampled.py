"""A resampled text encoder in a folder of diffusers, which runs the code beside its weights."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from kmm_jax.errors import DataError
from kmm_jax.generation.loading import load_pipeline
from kmm_jax.generation.request import Request
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.interop.diffusers.folder import Published
from kmm_jax.models.clip.config import XLMRobertaConfig
from kmm_jax.models.diffusion.config import ResampledTextEncoderConfig
from kmm_jax.models.diffusion.text_encoders import text_encoder
from kmm_jax.models.keys import abstract_module
from kmm_jax.text.adopted import adopt
from kmm_jax.text.tokenizer import Tokenizer
from tests import stable_diffusion
from tests.interop.conftest import KOREAN

LENGTH, POSITIONS = 16, 20
_ENCODER, _CODE = "text_encoder", "resampled_text_encoder.py"
_CLOSE = 2e-5  # of the scale of the states
_SIDE = 16


def config(tokenizer: Tokenizer, **changes: Any) -> ResampledTextEncoderConfig:
    tower = XLMRobertaConfig(
        vocabulary=tokenizer.vocab_size,
        length=LENGTH,
        width=16,
        depth=2,
        heads=2,
        hidden=32,
        positions=40,
        pad_id=tokenizer.pad_id,
    )
    options = {"positions": POSITIONS, "width": 32, "depth": 2, "heads": 4, "hidden": 24}
    return ResampledTextEncoderConfig(
        **{"tower": tower, "eos_id": tokenizer.eos_id, **options, **changes}
    )


def random_params(config: ResampledTextEncoderConfig) -> Any:
    """Noise on every parameter: zeros and ones would hide mistakes."""
    module = text_encoder(config, rngs=nnx.Rngs(0))
    leaves, tree = jax.tree.flatten(nnx.to_pure_dict(nnx.as_pure(nnx.state(module))))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        np.asarray(leaf + 0.1 * jax.random.normal(key, leaf.shape))
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)


@pytest.fixture(scope="module", params=["adopted", "own"])
def model(
    request: Any, made: Callable[[str], Path], unigram_tokenizer: Path
) -> tuple[Published, Any]:
    """A Stable Diffusion that such an encoder reads for, by a tokenizer of either origin."""
    tokenizer = Tokenizer(adopt(unigram_tokenizer))
    if request.param == "own":
        tokenizer = Tokenizer.train(KOREAN * 3, vocab_size=300)
    own = config(tokenizer)
    whole = folders.read(made("sd1"))
    return dataclasses.replace(
        whole,
        config=dataclasses.replace(whole.config, texts=(own,)),
        params={**whole.params, "texts": {0: random_params(own)}},
        tokenizers=(tokenizer,),
    )


@pytest.fixture(scope="module")
def folder(model: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("resampled") / "model"
    folders.write(place, model)
    return place


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Code of models is copied here and not into the home of whoever runs the tests."""
    stable_diffusion.diffusers()
    import diffusers.utils.dynamic_modules_utils as of_diffusers
    import transformers.dynamic_module_utils as of_transformers

    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for each in (of_diffusers, of_transformers):
        monkeypatch.setattr(each, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("diffusers_modules", "transformers_modules"):
            del sys.modules[name]


def test_what_is_read_is_written_back_to_the_bit(
    model: Published, folder: Path, tmp_path: Path
) -> None:
    found = folders.read(folder)
    assert found.config == model.config
    folders.write(tmp_path / "again", found)
    files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    assert Path(_ENCODER) / _CODE in files
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes(), file
    for before, after in zip(
        jax.tree.leaves(model.params), jax.tree.leaves(found.params), strict=True
    ):
        assert np.array_equal(before, after)
    ids = [each.sequences(KOREAN, None, LENGTH) for each in (*model.tokenizers, *found.tokenizers)]
    assert np.array_equal(*ids)


@pytest.mark.usefixtures("modules")
def test_the_code_beside_the_weights_gives_the_same_states(model: Published, folder: Path) -> None:
    import torch
    import transformers

    theirs = transformers.AutoModel.from_pretrained(folder / _ENCODER, trust_remote_code=True)
    texts = ["", *KOREAN, " ".join(KOREAN * 3)]
    ids = model.tokenizers[0].sequences(texts, None, LENGTH)
    words = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
    assert words.model_max_length == LENGTH
    cut = words(texts, padding="max_length", truncation=True, max_length=LENGTH)
    assert np.array_equal(cut["input_ids"], ids)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids).long(), attention_mask=None)
    module = abstract_module(lambda rngs: text_encoder(model.config.texts[0], rngs=rngs))
    ours = nnx.merge(nnx.graphdef(module), model.params["texts"][0])
    with jax.default_matmul_precision("highest"):
        found = ours(jnp.asarray(ids))
    pairs = ((found.hidden, expected[0]), (found.pooled, expected.pooler_output))
    for one, other in pairs:
        assert one.shape == tuple(other.shape)
        error = np.abs(np.asarray(one) - other.numpy()).max() / np.abs(other.numpy()).max()
        assert error < _CLOSE, error
    negative = words(texts, padding="max_length", truncation=True, max_length=POSITIONS)
    with torch.no_grad():
        again = theirs(torch.tensor(negative["input_ids"]))[0]
    assert torch.allclose(again, expected[0], atol=1e-5), "diffusers cuts negative prompts there"
    with pytest.raises(ValueError, match="leave clip_skip"):
        theirs(torch.from_numpy(ids).long(), output_hidden_states=True)


@pytest.mark.parametrize("model", ["adopted"], indirect=True)
@pytest.mark.usefixtures("modules")
def test_diffusers_makes_the_same_pictures(folder: Path) -> None:
    import torch

    library = stable_diffusion.diffusers()
    theirs = library.StableDiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    theirs.set_progress_bar_config(disable=True)
    prompts, negatives = ("빨간 원피스", "a red dress"), ("운동화 42", "")
    noise = np.random.default_rng(0).standard_normal((2, 8, 8, 4)).astype(np.float32)
    theirs.scheduler = library.DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
    with torch.no_grad():
        expected = theirs(
            list(prompts),
            negative_prompt=list(negatives),
            num_inference_steps=3,
            guidance_scale=3.0,
            height=_SIDE,
            width=_SIDE,
            latents=torch.from_numpy(noise.transpose(0, 3, 1, 2).copy()),
            output_type="latent",
        ).images
        pixels = theirs.vae.decode(expected / theirs.vae.config.scaling_factor).sample
    expected = expected.permute(0, 2, 3, 1).numpy()
    request = Request(
        prompts=prompts,
        negative=negatives,
        latents=noise,
        steps=3,
        guidance=3.0,
        sampler="ddim",
        height=_SIDE,
        width=_SIDE,
    )
    with jax.default_matmul_precision("highest"):
        found = load_pipeline(folder).generate(request)
    assert np.abs(found.latents - expected).max() / np.abs(expected).max() < 1e-4
    levels = np.round(np.clip(pixels.permute(0, 2, 3, 1).numpy() / 2 + 0.5, 0, 1) * 255)
    assert np.abs(found.images - levels).max() <= 1
    blind = load_pipeline(folder).generate(dataclasses.replace(request, prompts=prompts[::-1]))
    assert np.abs(found.latents - blind.latents).max() / np.abs(expected).max() > 1e-2


def test_without_trust_no_code_is_run(folder: Path) -> None:
    library = stable_diffusion.diffusers()
    with pytest.raises(ValueError, match="trust_remote_code"):
        library.StableDiffusionPipeline.from_pretrained(folder)


def test_what_is_not_whole_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    file = copy / _ENCODER / "config.json"
    values = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({k: v for k, v in values.items() if k != "positions"}), "utf-8")
    with pytest.raises(DataError, match=r"config\.json does not say 'positions'"):
        folders.read(copy)
    file.write_text(json.dumps({**values, "resampler_heads": 3}), "utf-8")
    with pytest.raises(DataError, match="does not divide into heads=3"):
        folders.read(copy)
    file.write_text(json.dumps(values), "utf-8")
    tensors = load_file(copy / _ENCODER / "model.safetensors")
    del tensors["queries"]
    save_file(tensors, copy / _ENCODER / "model.safetensors")
    with pytest.raises(DataError, match="missing queries"):
        folders.read(copy)
