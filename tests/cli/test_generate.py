"""`kmm generate`, from prompts to PNG files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from kmm_jax.cli import generate, main
from kmm_jax.generation.picture_file import read_settings
from kmm_jax.generation.prompt_sets import PROMPT_SETS
from kmm_jax.generation.schedulers.config import SAMPLERS

SHORT = ("--dtype", "float32", "--steps", "2", "--scheduler", "ddim")


@pytest.fixture
def model(made: Callable[[str], Path]) -> str:
    return str(made("sd1"))


def test_pictures_latents_and_settings_are_written(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    options = (*SHORT, "--output", str(output), "--seed", "5")
    prompts = ("빨간 셔츠", "a blue bag")
    assert main(["generate", model, *prompts, *options, "--save-latents"]) == 0
    told = capsys.readouterr()
    paths = [output / "000-seed5.png", output / "001-seed6.png"]
    assert told.out.split() == [str(path) for path in paths]
    assert "no safety filter runs" in told.err and "2/2" in told.err
    assert [read_settings(path)["prompt"] for path in paths] == list(prompts)
    assert Image.open(paths[0]).size == (16, 16)
    assert np.load(output / "000-seed5.npy").shape == (8, 8, 4)

    # An image to start from, a mask and noise of one's own; nothing is written over.
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).standard_normal((4, 8, 8)))
    Image.new("L", (16, 16), 255).save(tmp_path / "mask.png")
    more = ("--image", str(paths[0]), "--mask", str(tmp_path / "mask.png"))
    more = (*more, "--latents", str(tmp_path / "noise.npy"), "--strength", "1")
    assert main(["generate", model, "a blue bag", *options, *more]) == 0
    settings = read_settings(output / "002-seed5.png")
    assert settings["inpainting"] and settings["latents"] == "given"


def test_programs_are_compiled_and_no_picture_made(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ("--output", str(tmp_path / "out"))
    assert main(["generate", model, *SHORT, *output, "--count", "2", "--compile-only"]) == 0
    assert "5 programs in" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_loras_change_the_picture_and_stand_in_its_settings(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = "lora_unet_down_blocks_0_resnets_0_conv1"
    named = {"lora_down": np.ones((1, 32, 3, 3)), "lora_up": np.ones((32, 1, 1, 1))}
    file = tmp_path / "a=b.safetensors"
    save_file(
        {f"{module}.{name}.weight": value.astype(np.float32) for name, value in named.items()}, file
    )
    pictures = []
    for more in ((), ("--lora", str(file)), ("--lora", f"{file}=0.5", "--lora", f"{file}=-0.5")):
        assert main(["generate", model, "x", *SHORT, "--output", str(tmp_path), *more]) == 0
        path = Path(capsys.readouterr().out.strip())
        pictures.append((np.asarray(Image.open(path)), read_settings(path).get("loras")))
    assert [loras for _, loras in pictures] == [
        None,
        ["a=b.safetensors=1"],
        ["a=b.safetensors=0.5", "a=b.safetensors=-0.5"],
    ]
    plain, changed, back = (image.astype(int) for image, _ in pictures)
    assert np.abs(plain - changed).max() > 1 >= np.abs(plain - back).max()


def test_a_grid_of_steps(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", model, "--prompt-set", "steps", "--grid", "steps"]
    assert main([*arguments, "--output", str(tmp_path), "--dtype", "float32"]) == 0
    path = Path(capsys.readouterr().out.strip())
    settings = read_settings(path)
    assert settings["steps"] == "4 8 10 20 25 50"
    assert (settings["prompt"], settings["sampler"]) == ("고양이 사진 | 파란색 드레스", "pndm")
    width, height = Image.open(path).size
    assert width > 6 * 16 and height > 2 * 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no prompt"),
        (("--prompt-set", "talks"), "did you mean 'talk'"),
        (("x", "--mask", "MODEL"), "is no file"),
        (("x", "--image", "nothing.png"), "nothing.png is no file"),
        (("x", "--latents", "nothing.npy"), "nothing.npy is no array"),
        (("x", "--height", "17"), "height 17 does not divide by 4"),
        (("x", "--clip-skip", "9"), "clip-skip"),
        (("x", "--safety-concept", "nudity=0.2"), "--safety-concept needs --safety"),
        (("x", "--safety", "m", "--safety-concept", "nudity"), "write TEXT=COSINE"),
        (("x", "--seed", "-1"), "a seed is a whole number"),
        (("x", "--tile", "-1"), "tile"),
        (("x", "--lora", "nothing.safetensors=2"), "--lora nothing.safetensors: no such file"),
        (("x", "--lora", "MODEL=nan"), "the scale after = must be a number"),
    ],
)
def test_what_cannot_work_ends_with_2_and_a_line(
    arguments: tuple[str, ...],
    message: str,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [each.replace("MODEL", model) for each in arguments]
    assert main(["generate", model, *given, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_arguments_that_are_none_end_with_2(model: str) -> None:
    for wrong in (["--scheduler", "odd"], ["--steps", "many"], ["--grid", "guidance"]):
        with pytest.raises(SystemExit) as ended:
            main(["generate", model, "x", *wrong])
        assert ended.value.code == 2


def test_the_help_knows_every_sampler_and_set() -> None:
    assert generate._SAMPLERS == SAMPLERS
    commands = argparse.ArgumentParser().add_subparsers()
    generate.add(commands)
    text = commands.choices["generate"].format_help()
    assert all(name in text for name in PROMPT_SETS)
