"""Merged LoRAs beside PyTorch: what UNet and text encoders give with peft's adapters at work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.interop.diffusers.folder import Published
from kmm_jax.interop.diffusers.lora import merge
from kmm_jax.models.diffusion.modeling import abstract
from kmm_jax.models.diffusion.unet import Added
from tests import stable_diffusion
from tests.interop.diffusers.test_lora import (
    TEXT,
    UNET,
    diffusers_of_2023,
    factors,
    kohya,
    peft,
    written,
)

CLOSE = 2e-5  # of the output's scale
SCALE = 0.7
_IDS = np.random.default_rng(0).integers(0, stable_diffusion.VOCABULARY - 2, (2, 20))
_X = np.random.default_rng(1).standard_normal((2, 4, 8, 8)).astype(np.float32)
_TIMES = np.asarray([981.0, 13.5], np.float32)
_SIZES = np.asarray([[64.0, 64, 0, 8, 64, 48]] * 2, np.float32)


@pytest.fixture(autouse=True)
def adapters() -> Any:
    """The module of peft, or skip with the reason; diffusers looks for it too."""
    stable_diffusion.diffusers()  # first: peft imports transformers, as this prepares it
    return pytest.importorskip("peft", reason="peft is the reference here")


@functools.partial(jax.jit, static_argnums=0)
def run(graphdef: Any, params: Any) -> tuple[list[jax.Array], jax.Array]:
    """The states of each text encoder, and what the UNet makes of them."""
    model = nnx.merge(graphdef, params)
    texts = [text(jnp.asarray(_IDS)) for text in model.texts]
    context = jnp.concatenate([each.hidden for each in texts], axis=-1)
    added = Added(texts[-1].pooled, jnp.asarray(_SIZES)) if len(texts) > 1 else None
    x = jnp.asarray(_X.transpose(0, 2, 3, 1))
    return [each.hidden for each in texts], model.unet(x, jnp.asarray(_TIMES), context, added=added)


def ours(model: Published) -> list[np.ndarray]:
    with jax.default_matmul_precision("highest"):
        texts, unet = run(nnx.graphdef(abstract(model.config)), model.params)
    return [*map(np.asarray, texts), np.asarray(unet).transpose(0, 3, 1, 2)]


def theirs(pipeline: Any) -> list[np.ndarray]:
    import torch

    ids = torch.from_numpy(_IDS)
    encoders = [getattr(pipeline, f"text_encoder{end}", None) for end in ("", "_2")]
    with torch.no_grad():
        outputs = [encoder(ids) for encoder in encoders if encoder is not None]
        texts = [each.last_hidden_state for each in outputs]
        more = {}
        if len(texts) > 1:
            sizes = torch.from_numpy(_SIZES)
            added = {"text_embeds": outputs[-1].text_embeds, "time_ids": sizes}
            more = {"added_cond_kwargs": added}
        x, times = torch.from_numpy(_X), torch.from_numpy(_TIMES)
        unet = pipeline.unet(x, times, torch.cat(texts, dim=-1), **more).sample
    return [each.numpy() for each in (*texts, unet)]


def assert_close(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for got, wanted in zip(found, expected, strict=True):
        assert np.abs(got - wanted).max() / np.abs(wanted).max() <= CLOSE


def loaded(folder: Path) -> Any:
    return stable_diffusion.diffusers().DiffusionPipeline.from_pretrained(folder)


def adapted(pipeline: Any) -> int:
    """How many layers have an adapter at work."""
    parts = (pipeline.unet, pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None))
    return sum(
        bool(getattr(module, "lora_A", ()))
        for part in parts
        if part is not None
        for module in part.modules()
    )


@pytest.mark.parametrize("naming", [peft, diffusers_of_2023, kohya])
def test_files_merged_here_give_what_diffusers_gives_with_them(
    naming: Callable[[str], tuple[str, str]],
    stable_diffusion_of: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    """Linear layers, convolutions of 1 and 3 pixels, of which one strides, text encoder."""
    folder, made = stable_diffusion_of("sd1")
    alphas = {}
    if naming is kohya:
        alphas = {
            kohya(name)[0].replace("lora_down.weight", "alpha"): np.full((), 3, np.float32)
            for name in factors(made)
        }
    file = written(tmp_path / "lora.safetensors", made, naming, **alphas)
    reference = loaded(folder)
    before = theirs(reference)
    reference.load_lora_weights(str(file), adapter_name="style")
    reference.set_adapters("style", SCALE)
    assert adapted(reference) == len(UNET) + len(TEXT)
    expected = theirs(reference)
    assert all(np.abs(a - b).max() > 0.1 for a, b in zip(expected, before, strict=True))
    assert_close(ours(merge(folders.read(folder), file, SCALE)), expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("sd1", {"alpha_pattern": {"conv1|fc1": 1}}), ("sdxl", {"use_rslora": True})],
)
def test_what_is_trained_with_peft_and_saved_by_diffusers(
    kind: str,
    options: dict[str, Any],
    stable_diffusion_of: Callable[[str], Any],
    adapters: Any,
    tmp_path: Path,
) -> None:
    """With alpha in the file's metadata, as training scripts of diffusers leave it there."""
    import torch
    from diffusers.training_utils import _collate_lora_metadata
    from peft.utils import get_peft_model_state_dict

    folder = stable_diffusion_of(kind).folder
    reference = loaded(folder)
    torch.manual_seed(0)
    layers = {
        "unet": ["to_q", "to_k", "to_out.0", "ff.net.0.proj", "conv1", "proj_in", "conv_in"],
        "text_encoder": ["q_proj", "out_proj", "fc1"],
        "text_encoder_2": ["v_proj", "fc2"],
    }
    parts = {name: getattr(reference, name, None) for name in layers}
    parts = {name: part for name, part in parts.items() if part is not None}
    for name, part in parts.items():
        part.add_adapter(
            adapters.LoraConfig(r=3, lora_alpha=5, target_modules=layers[name], **options)
        )
        for parameter_name, parameter in part.named_parameters():
            if "lora_B" in parameter_name:  # zeros, before training
                torch.nn.init.normal_(parameter, std=0.3)
    type(reference).save_lora_weights(
        tmp_path,
        **{f"{name}_lora_layers": get_peft_model_state_dict(part) for name, part in parts.items()},
        **_collate_lora_metadata(parts),
    )
    (file,) = tmp_path.glob("*.safetensors")
    for part in parts.values():
        for module in part.modules():
            if getattr(module, "lora_A", ()):
                module.set_scale("default", 0.5)
    assert adapted(reference) > 20
    assert_close(ours(merge(folders.read(folder), file, 0.5)), theirs(reference))
