"""LoRAs of every naming, merged, beside the formula on PyTorch's own modules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from kmm_jax.errors import DataError, UserError
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.interop.diffusers.ldm_names import ldm_name
from kmm_jax.interop.diffusers.lora import merge
from kmm_jax.interop.diffusers.names import PREFIX
from kmm_jax.models.diffusion.config import UNetConfig, sd15, sdxl
from tests.interop.diffusers.test_folder import tensors

RANK = 2
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
UNET = (
    f"{ATTENTION}.to_q",
    f"{ATTENTION}.to_out.0",
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "down_blocks.0.attentions.0.proj_in",
    "up_blocks.1.resnets.0.conv1",
    "up_blocks.1.resnets.1.conv_shortcut",
    "down_blocks.0.downsamplers.0.conv",
    "mid_block.resnets.0.time_emb_proj",
)
TEXT = (
    "text_model.encoder.layers.1.self_attn.q_proj",
    "text_model.encoder.layers.2.mlp.fc1",
    "text_model.encoder.layers.0.self_attn.out_proj",
)


def modules(pipeline: Any) -> dict[str, Any]:
    """The layers that are adapted, with their parts."""
    found = {f"unet.{name}": pipeline.unet.get_submodule(name) for name in UNET}
    for part in ("text_encoder", "text_encoder_2"):
        encoder = getattr(pipeline, part, None)
        for name in TEXT if encoder is not None else ():
            try:
                found[f"{part}.{name}"] = encoder.get_submodule(name)
            except AttributeError:
                found[f"{part}.{name}"] = encoder.get_submodule(name.removeprefix(PREFIX))
    return found


def factors(pipeline: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    found = {}
    for name, module in modules(pipeline).items():
        out, *rest = module.weight.shape
        up = (out, RANK, *[1] * (len(rest) - 1))
        found[name] = tuple(
            random.standard_normal(shape).astype(np.float32) for shape in ((RANK, *rest), up)
        )
    return found


def peft(name: str) -> tuple[str, str]:
    return f"{name}.lora_A.weight", f"{name}.lora_B.weight"


def saved_by_peft(name: str) -> tuple[str, str]:
    part, _, path = name.partition(".")
    return peft(f"{part}.base_model.model.{path}")


def diffusers_of_2023(name: str) -> tuple[str, str]:
    part, _, path = name.partition(".")
    if path.endswith("to_q") or path.endswith("to_out.0"):
        head, _, leaf = path.removesuffix(".0").rpartition(".")
        return tuple(
            f"{part}.{head}.processor.{leaf}_lora.{side}.weight" for side in ("down", "up")
        )
    middle = "lora_linear_layer" if part.startswith("text") else "lora"
    return tuple(f"{name}.{middle}.{side}.weight" for side in ("down", "up"))


def kohya(name: str) -> tuple[str, str]:
    part, _, path = name.partition(".")
    head = {"unet": "unet", "text_encoder": "te", "text_encoder_2": "te2"}[part]
    module = f"lora_{head}_{path.replace('.', '_')}"
    return f"{module}.lora_down.weight", f"{module}.lora_up.weight"


def kohya_in_the_original_layout(name: str) -> tuple[str, str]:
    part, _, path = name.partition(".")
    if part != "unet":
        return kohya(name)
    original = ldm_name(
        path,
        UNetConfig(layers=1, widths=(32, 64), transformers=(1, 0), heads=(4, 4), norm_groups=16),
    )
    assert original is not None
    return kohya(f"unet.{original}")


def written(
    path: Path, pipeline: Any, naming: Callable[[str], tuple[str, str]], **more: Any
) -> Path:
    named = {
        key: value
        for name, pair in factors(pipeline).items()
        for key, value in zip(naming(name), pair, strict=True)
    }
    save_file({**named, **more}, path)
    return path


def expected(folder: Path, pipeline: Any, scale: float) -> dict[str, np.ndarray]:
    """Every tensor of the merged folder, by the formula on what PyTorch keeps."""
    import torch

    found = tensors(folder)
    for name, (down, up) in factors(pipeline).items():
        part, _, path = name.partition(".")
        key = f"{part}/{path.removeprefix(PREFIX)}.weight"
        a, b = torch.from_numpy(down), torch.from_numpy(up)
        product = torch.einsum("or,r...->o...", b.flatten(1), a)
        found[key] = found[key] + scale * product.numpy().reshape(found[key].shape)
    return found


def assert_same(ours: folders.Published, wanted: dict[str, np.ndarray], place: Path) -> None:
    folders.write(place, ours)
    found = tensors(place)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=2e-6 * max(1, np.abs(value).max()), err_msg=name
        )


@pytest.mark.parametrize(
    "naming", [peft, saved_by_peft, diffusers_of_2023, kohya, kohya_in_the_original_layout]
)
def test_every_naming_gives_the_formula(
    naming: Any, stable_diffusion_of: Callable[[str], Any], tmp_path: Path
) -> None:
    folder, pipeline = stable_diffusion_of("sd1")
    file = written(tmp_path / "lora.safetensors", pipeline, naming)
    merged = merge(folders.read(folder), file, 0.7)
    assert_same(merged, expected(folder, pipeline, 0.7), tmp_path / "merged")


def test_both_text_encoders_of_sdxl(
    stable_diffusion_of: Callable[[str], Any], tmp_path: Path
) -> None:
    folder = stable_diffusion_of("sdxl").folder
    heads = {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    pairs = factors_of_text()
    named = {}
    for name, (down, up) in pairs.items():
        part, _, path = name.partition(".")
        module = f"{heads[part]}_{path.replace('.', '_')}"
        named |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
    save_file(named, tmp_path / "lora.safetensors")
    model = folders.read(folder)
    merged = merge(model, tmp_path / "lora.safetensors")
    for number in (0, 1):
        part = "text_encoder_2" if number else "text_encoder"
        down, up = pairs[f"{part}.{TEXT[1]}"]
        before, after = (
            each.params["texts"][number]["tower"]["blocks"]["layers"]["mlp"]["up"]["kernel"]
            for each in (model, merged)
        )
        np.testing.assert_allclose(after[2] - before[2], (up @ down).T, atol=1e-5)
        np.testing.assert_array_equal(after[:2], before[:2])


def factors_of_text() -> dict[str, Any]:
    random = np.random.default_rng(1)
    return {
        f"{part}.{TEXT[1]}": (
            random.standard_normal((RANK, 32)).astype(np.float32),
            random.standard_normal((64, RANK)).astype(np.float32),
        )
        for part in ("text_encoder", "text_encoder_2")
    }


def test_alpha_stands_in_the_file_or_beside_it(
    stable_diffusion_of: Callable[[str], Any], tmp_path: Path
) -> None:
    folder, pipeline = stable_diffusion_of("sd1")
    model = folders.read(folder)
    wanted = expected(folder, pipeline, 0.5)  # alpha 1 over a rank of 2
    alphas = {
        kohya(name)[0].replace("lora_down.weight", "alpha"): np.ones((), np.float32)
        for name in factors(pipeline)
    }
    file = written(tmp_path / "kohya.safetensors", pipeline, kohya, **alphas)
    assert_same(merge(model, file), wanted, tmp_path / "1")
    (tmp_path / "adapter").mkdir()
    written(tmp_path / "adapter" / "adapter_model.safetensors", pipeline, peft)
    about = {"lora_alpha": 8, "r": RANK, "alpha_pattern": {".*": 1}}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(about))
    assert_same(merge(model, tmp_path / "adapter"), wanted, tmp_path / "2")
    named = {
        key: value
        for name, pair in factors(pipeline).items()
        for key, value in zip(peft(name), pair, strict=True)
    }
    said = {f"{part}.lora_alpha": 1 for part in ("unet", "text_encoder")}
    save_file(named, tmp_path / "own.safetensors", {"lora_adapter_metadata": json.dumps(said)})
    assert_same(merge(model, tmp_path / "own.safetensors"), wanted, tmp_path / "3")


def test_one_after_another_and_back(
    stable_diffusion_of: Callable[[str], Any], tmp_path: Path
) -> None:
    folder, pipeline = stable_diffusion_of("sd1")
    file = written(tmp_path / "lora.safetensors", pipeline, peft)
    model = folders.read(folder)
    twice = merge(merge(model, file, 0.5), file, 0.25)
    assert_same(twice, expected(folder, pipeline, 0.75), tmp_path / "twice")
    assert_same(model, tensors(folder), tmp_path / "untouched")
    assert_same(merge(twice, file, -0.75), tensors(folder), tmp_path / "back")


@pytest.mark.parametrize("config", [sd15(), sdxl()])
def test_no_two_layers_share_a_name(config: Any) -> None:
    from kmm_jax.interop.diffusers.lora_names import _names, _targets

    seen: dict[str, str] = {}
    for target in _targets(config):
        part, _, path = target.module.partition(".")
        for name in set(_names(part, path, config)):
            assert seen.setdefault(name, target.module) == target.module
    assert len(seen) > 1000
    original = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    if len(config.texts) > 1:
        assert seen[original] == ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k")
        assert seen["lora_unet_output_blocks_2_2_conv"] == "unet.up_blocks.0.upsamplers.0.conv"
    else:
        assert seen["lora_unet_output_blocks_2_1_conv"] == "unet.up_blocks.0.upsamplers.0.conv"
        assert seen["lora_unet_input_blocks_3_0_op"] == "unet.down_blocks.0.downsamplers.0.conv"


Q = f"unet.{ATTENTION}.to_q"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({f"{Q}.lora_A.weight": (2, 32)}, "is not whole: .* no up factor"),
        ({f"{Q}.lora_A.weight": (2, 32), f"{Q}.lora_B.weight": (32, 3)}, "do not multiply"),
        ({f"{Q}.lora_A.weight": (2, 31), f"{Q}.lora_B.weight": (32, 2)}, "of another model"),
        (
            {f"{Q}.lora_A.weight": (2, 32, 3, 3), f"{Q}.lora_B.weight": (32, 2, 1, 1)},
            "kind of layer",
        ),
        (
            {"unet.odd.lora_A.weight": (2, 2), "lora_te2_x.alpha": ()},
            "2 of 2 tensors do not belong",
        ),
        ({f"{Q}.weight": (2, 2)}, "1 of 1 tensors do not belong to this model, unet.down"),
        ({f"{Q}.lora_magnitude_vector": (2,)}, "is a DoRA"),
        ({"lora_unet_conv_in.dora_scale": (2,)}, "is a DoRA"),
        ({"lora_unet_conv_in.hada_w1_a": (2,)}, "is a LoHa"),
        ({"lora_unet_conv_in.lokr_w1": (2,)}, "is a LoKr"),
    ],
)
def test_what_does_not_fit_is_named(
    named: dict[str, tuple[int, ...]], message: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({name: np.ones(shape, np.float32) for name, shape in named.items()}, file)
    with pytest.raises(DataError, match=message):
        merge(folders.read(made("sd1")), file)


def test_pickles_and_nothing_are_refused(made: Callable[[str], Path], tmp_path: Path) -> None:
    model = folders.read(made("sd1"))
    with pytest.raises(UserError, match="no weights at"):
        merge(model, tmp_path / "none.safetensors")
    (tmp_path / "lora.pt").write_bytes(b"pickle")
    with pytest.raises(UserError, match="is a pickle"):
        merge(model, tmp_path / "lora.pt")
