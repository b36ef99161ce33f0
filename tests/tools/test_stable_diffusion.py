"""The page of Stable Diffusion: small models measured as the full ones are, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from kmm_jax.text.clip_bpe import train_clip_bpe
from kmm_jax.text.tokenizer import Tokenizer
from tests import stable_diffusion
from tools import results
from tools.stable_diffusion import __main__ as command
from tools.stable_diffusion import networks, originals, page, whole


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    stable_diffusion.diffusers()
    return train_clip_bpe(["a photo of a red shirt", "빨간 셔츠 사진"], 600)


@pytest.mark.slow
def test_every_output_of_a_folder_is_measured(tokenizer: Tokenizer) -> None:
    found = networks.measured("sdxl", originals.small, tokenizer)
    assert len(found["errors"]) == 11
    assert 0 < max(found["errors"].values()) < page.NETWORK_AIM
    assert found["tensors_come_back_equal"]


@pytest.mark.slow
def test_samplers_give_what_those_of_diffusers_give(tokenizer: Tokenizer) -> None:
    rows = whole.measured("sd15", tokenizer, steps=3, samplers=("dpmpp-karras", "lcm"))
    assert [row["class"] for row in rows] == ["DPMSolverMultistepScheduler", "LCMScheduler"]
    for row in rows:
        assert 0 < row["latents"] < page.PIPELINE_AIM
        assert row["pixels"] <= 1


def test_tensors_that_changed_or_are_gone_are_named(tmp_path: Path) -> None:
    for name, values in (
        ("before", {"a": [1.0], "text_model.b": [-0.0], "c": [3.0]}),
        ("after", {"a": [1.0], "b": [0.0]}),
    ):
        (tmp_path / name / "unet").mkdir(parents=True)
        arrays = {key: np.asarray(value, np.float32) for key, value in values.items()}
        save_file(arrays, tmp_path / name / "unet" / "x.safetensors")
    assert networks.differing(tmp_path / "before", tmp_path / "after") == ["unet/c", "unet/b"]


def test_full_sizes_are_those_that_are_published() -> None:
    """And half as wide means a quarter of the products' weights."""
    torch = pytest.importorskip("torch")
    library = stable_diffusion.diffusers()

    def count(sizes: originals.Sizes) -> int:
        with torch.device("meta"):
            unet = library.UNet2DConditionModel(**sizes.unet)
        return sum(each.numel() for each in unet.parameters())

    assert count(originals.published("sd15")) == 859_520_964
    assert count(originals.published("sd21")) == 865_910_724
    assert count(originals.published("sdxl")) == 2_567_463_684
    assert np.isclose(count(originals.half_as_wide("sdxl")) / 2_567_463_684, 1 / 4, rtol=0.02)


def case(error: float) -> dict[str, Any]:
    return {
        "parameters": {"unet": 859_500_000, "autoencoder": 83_700_000, "text": 123_100_000},
        "latents": [8, 16],
        "errors": {"UNet": error, "decoder": 1e-6},
        "tensors_come_back_equal": True,
        "differing": [],
    }


def test_cases_of_another_day_stay_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    for name, error in (("sd15", 3e-6), ("sd21", 4e-5)):
        monkeypatch.setattr(command, "measured", lambda _, error=error: case(error))
        assert command.main([name]) == 0
    text = (tmp_path / "stable_diffusion.md").read_text("utf-8")
    assert "| UNet | 3.0e-06 | 4.0e-05 |" in text
    assert "859.5 + 83.7 + 123.1" in text
    assert "Aim 2e-05: **missed**, the worst is 4.0e-05." in text
    values = json.loads((tmp_path / "stable_diffusion.json").read_text("utf-8"))
    assert values["sd15"]["provenance"]["command"] == "python -m tools.stable_diffusion sd15"
    assert command.main(["sd14"]) == 2
    assert "no 'sd14'" in capsys.readouterr().err
