"""Folders of diffusers: read, written, and read by diffusers again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from kmm_jax.errors import DataError, UserError
from kmm_jax.interop.diffusers import folder as folders
from tests import stable_diffusion

_UNET = "unet/diffusion_pytorch_model.safetensors"
_VAE = "vae/diffusion_pytorch_model.safetensors"


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor below a folder, by the path of its file and its name."""
    return {
        f"{file.relative_to(folder).parent}/{name.removeprefix('text_model.')}": value
        for file in sorted(folder.rglob("*.safetensors"))
        for name, value in load_file(file).items()
        if not name.endswith("position_ids")
    }


@pytest.fixture
def copy(made: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made("sd1"), tmp_path / "copy"))


def test_what_is_read_is_written_back_to_the_bit(folder: Path, tmp_path: Path) -> None:
    folders.write(tmp_path / "again", folders.read(folder))
    before, after = tensors(folder), tensors(tmp_path / "again")
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        assert value.tobytes() == after[name].tobytes(), name


def test_diffusers_takes_what_is_written(folder: Path, tmp_path: Path) -> None:
    import torch

    library = stable_diffusion.diffusers()
    folders.write(tmp_path / "ours", folders.read(folder))
    pictures = []
    for place in (folder, tmp_path / "ours"):
        pipeline = library.DiffusionPipeline.from_pretrained(place)
        pipeline.set_progress_bar_config(disable=True)
        more = {"original_size": (16, 16)} if "XL" in type(pipeline).__name__ else {}
        pictures.append(
            pipeline(
                "a photo of a red shirt",
                num_inference_steps=2,
                height=16,
                width=16,
                generator=torch.Generator().manual_seed(0),
                output_type="np",
                **more,
            ).images
        )
    assert np.array_equal(pictures[0], pictures[1])


def test_half_precision_comes_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    folders.write(tmp_path / "half", folders.read(folder), dtype="float16")
    folders.write(tmp_path / "again", folders.read(tmp_path / "half"), dtype="float16")
    before, after = tensors(tmp_path / "half"), tensors(tmp_path / "again")
    assert all(value.tobytes() == after[name].tobytes() for name, value in before.items())
    model = folders.read(tmp_path / "half", dtype="bfloat16")
    assert model.params["unet"]["conv_in"]["kernel"].dtype == "bfloat16"


def test_a_text_encoder_of_transformers_before_5_is_read(copy: Path) -> None:
    """Their tensors had a prefix, and positions among them."""
    expected = folders.read(copy).params["texts"][0]
    file = copy / "text_encoder" / "model.safetensors"
    bare = {name.removeprefix("text_model."): value for name, value in load_file(file).items()}
    old = {f"text_model.{name}": value for name, value in bare.items()}
    old["text_model.embeddings.position_ids"] = np.arange(20)[None]
    for named in (bare, old):
        save_file(named, file)
        found = folders.read(copy).params["texts"][0]
        assert np.array_equal(
            found["tower"]["embedding"]["positions"], expected["tower"]["embedding"]["positions"]
        )


def test_an_autoencoder_with_old_names_is_read(copy: Path) -> None:
    before = folders.read(copy).params["vae"]
    old = {}
    for name, value in load_file(copy / _VAE).items():
        for new, earlier in (
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "proj_attn"),
        ):
            if f".attentions.0.{new}." in name:
                name = name.replace(new, earlier)
                value = value[:, :, None, None] if value.ndim == 2 else value
        old[name] = value
    save_file(old, copy / _VAE)
    after = folders.read(copy).params["vae"]
    for part in ("to_q", "to_out"):
        assert np.array_equal(
            before["encoder"]["mid_block"]["attentions"][0][part]["kernel"],
            after["encoder"]["mid_block"]["attentions"][0][part]["kernel"],
        )


def test_parts_in_pieces_are_read(copy: Path) -> None:
    expected = folders.read(copy).params["unet"]["conv_in"]["kernel"]
    whole = load_file(copy / _UNET)
    (copy / _UNET).unlink()
    names = sorted(whole)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    places = {}
    for number, half in enumerate(halves, start=1):
        name = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        save_file({each: whole[each] for each in half}, copy / "unet" / name)
        places |= dict.fromkeys(half, name)
    index = {"metadata": {}, "weight_map": places}
    (copy / f"{_UNET}.index.json").write_text(json.dumps(index))
    assert np.array_equal(folders.read(copy).params["unet"]["conv_in"]["kernel"], expected)


def test_a_variant_is_asked_for(copy: Path) -> None:
    for file in list(copy.rglob("*.safetensors")):
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    assert folders.read(copy, variant="fp16").config.unet.widths == (32, 64)
    with pytest.raises(UserError, match="there is 'fp16': choose it with --variant"):
        folders.read(copy)


def _changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("unet", {"act_fn": "gelu"}, "act_fn='gelu' is of a network that is not built here"),
        ("unet", {"down_block_types": ["KDownBlock2D"] * 2}, "no block 'KDownBlock2D' here"),
        ("unet", {"cross_attention_dim": 7}, "the UNet attends to 7"),
        ("unet", {"block_out_channels": [32, 65]}, "65 does not divide into 16 groups"),
        ("vae", {"up_block_types": ["Odd", "Odd"]}, "only UpDecoderBlock2D is known here"),
        ("vae", {"latents_mean": [0.1]}, "latents_mean"),
    ],
)
def test_networks_that_are_not_built_here_are_refused(
    copy: Path, part: str, values: dict[str, Any], message: str
) -> None:
    _changed(copy / part / "config.json", **values)
    with pytest.raises(DataError, match=message):
        folders.read(copy)


def test_what_is_missing_left_over_or_damaged_is_named(copy: Path) -> None:
    whole = load_file(copy / _UNET)
    less = {name: value for name, value in whole.items() if name != "conv_in.bias"}
    save_file({**less, "strange.weight": whole["conv_in.bias"]}, copy / _UNET)
    with pytest.raises(DataError, match=r"missing conv_in.bias; not known strange.weight"):
        folders.read(copy)
    content = (copy / _UNET).read_bytes()
    (copy / _UNET).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        folders.read(copy)
    (copy / _UNET).unlink()
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"pickle|no \.safetensors"):
        folders.read(copy)


def test_folders_that_hold_something_else_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model_index.json is not there"):
        folders.read(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(DataError, match="is of a FluxPipeline; read here are StableDiffusion"):
        folders.read(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        folders.read(tmp_path)


def test_nothing_else_is_overwritten(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="exists and is no model"):
        folders.write(tmp_path / "mine", folders.read(copy))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    with safe_open(copy / _UNET, "numpy") as opened:
        assert "conv_in.weight" in opened.keys()  # noqa: SIM118
