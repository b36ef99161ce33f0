"""What a generator keeps to: what is compiled, what a picture depends on, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.generation import decoding
from kmm_jax.generation.loading import load_pipeline
from kmm_jax.generation.picture_file import read_settings, write_picture
from kmm_jax.generation.pipeline import Pipeline
from kmm_jax.generation.request import MOST_SEED, Request
from kmm_jax.generation.starting_image import image_size, images_and_masks

PROMPT = "a photo of a red shirt"


def ask(**more: Any) -> Request:
    return Request(**{"prompts": PROMPT, "steps": 4, "sampler": "ddim", "guidance": 3.0, **more})


@pytest.fixture
def ours(pipeline_of: Callable[..., Pipeline]) -> Pipeline:
    return pipeline_of("sd1")


def photo(height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_another_prompt_seed_guidance_or_sampler_compiles_nothing(ours: Pipeline) -> None:
    ours.generate(ask())
    before = ours.compiled
    for change in (
        {"prompts": "파란 가방"},
        {"seeds": 77},
        {"guidance": 9.0},
        {"negative": "a table"},
        {"sampler": "dpmpp-karras"},
        {"sampler": "lcm"},
        {"sampler": "pndm", "steps": 3},
        {"sampler": "ddim", "eta": 0.5},
    ):
        ours.generate(ask(**change))
    assert ours.compiled == before


def test_a_picture_depends_on_its_own_seed_and_prompt(ours: Pipeline) -> None:
    prompts, negatives, seeds = (
        (PROMPT, "파란 가방", "a white shoe"),
        ("bag", "", "rain"),
        (5, 9, 2),
    )
    together = ours.generate(ask(prompts=prompts, negative=negatives, seeds=seeds, sampler="lcm"))
    for number in range(3):
        alone = ours.generate(
            ask(
                prompts=prompts[number],
                negative=negatives[number],
                seeds=seeds[number],
                sampler="lcm",
            )
        )
        np.testing.assert_allclose(
            together.latents[number], alone.latents[0], atol=1e-4 * np.abs(alone.latents).max()
        )
        assert together.settings[number] == alone.settings[0]
    assert np.abs(together.latents[0] - together.latents[1]).max() > 0.1


def test_each_of_several_pictures_of_a_prompt_has_the_next_seed(ours: Pipeline) -> None:
    made = ours.generate(ask(prompts=[PROMPT, "파란 가방"], per_prompt=2, seeds=np.int64(7)))
    assert [each["seed"] for each in made.settings] == [7, 8, 9, 10]
    assert [each["prompt"] for each in made.settings] == [PROMPT] * 2 + ["파란 가방"] * 2
    assert len({picture.tobytes() for picture in made.pictures()}) == 4


def test_negative_prompts_and_guidance_matter_only_with_guidance(ours: Pipeline) -> None:
    plain = ours.generate(ask()).latents
    assert np.abs(ours.generate(ask(negative="a table")).latents - plain).max() > 1e-3
    without = ours.generate(ask(guidance=1.0)).latents
    np.testing.assert_array_equal(
        ours.generate(ask(guidance=0.5, negative="a table")).latents, without
    )


def test_eight_devices_make_the_pictures_of_one_and_exchange_nothing(
    pipeline_of: Callable[..., Pipeline], ours: Pipeline
) -> None:
    many = pipeline_of("sd1", 8)
    prompts = tuple(f"a photo of {number}" for number in range(3))
    found = many.generate(ask(prompts=prompts))
    expected = ours.generate(ask(prompts=prompts))
    np.testing.assert_allclose(
        found.latents, expected.latents, atol=1e-4 * np.abs(expected.latents).max()
    )
    assert np.abs(found.images.astype(int) - expected.images).max() <= 1
    (program,) = [each for key, each in many.programs.compiled.items() if key[0] == "denoise"]
    text = program.program.as_text()
    assert "num_partitions=8" in text
    for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert collective not in text


@pytest.mark.parametrize("kind", ["sd1", pytest.param("inpainting", marks=pytest.mark.slow)])
def test_what_is_compiled_ahead_serves_other_requests_of_its_form(
    pipeline_of: Callable[..., Pipeline], kind: str
) -> None:
    """Pictures of one image too, where devices have more rows than there are images."""
    pipeline = pipeline_of(kind, 2)
    mask = np.zeros((16, 16), bool)
    mask[:, 4:] = True

    def form(prompt: str, **more: Any) -> Request:
        return ask(prompts=(prompt,) * 3, image=photo(), mask=mask, steps=3, **more)

    assert pipeline.compile(form("x")) > 0
    assert pipeline.compile(form("y", guidance=2.0)) == 0
    before = pipeline.compiled
    made = pipeline.generate(form(PROMPT, seeds=5))
    assert pipeline.compiled == before
    alone = pipeline_of(kind).generate(form(PROMPT, seeds=5))
    np.testing.assert_allclose(made.latents, alone.latents, atol=1e-4 * np.abs(alone.latents).max())
    told = lambda done, steps: None  # noqa: E731
    assert pipeline.compile(form("x"), progress=True) > 0
    before = pipeline.compiled
    pipeline.generate(form(PROMPT), progress=told)
    assert pipeline.compiled == before


def test_progress_changes_no_picture_and_serves_any_number_of_steps(ours: Pipeline) -> None:
    told: list[tuple[int, int]] = []

    def listen(done: int, steps: int) -> None:
        told.append((done, steps))

    for sampler in ("unipc", "lcm"):
        told.clear()
        heard = ours.generate(ask(sampler=sampler), progress=listen).latents
        assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
        np.testing.assert_allclose(
            heard, ours.generate(ask(sampler=sampler)).latents, atol=1e-4 * np.abs(heard).max()
        )
    before = ours.compiled
    ours.generate(ask(steps=7), progress=listen)
    assert ours.compiled == before


def test_latents_come_in_both_layouts_and_go_out(ours: Pipeline) -> None:
    noise = np.random.default_rng(0).standard_normal((1, 8, 8, 4)).astype(np.float32)
    made = ours.generate(ask(latents=noise))
    assert made.latents.shape == (1, 8, 8, 4) and made.latents.dtype == np.float32
    assert made.settings[0]["latents"] == "given"
    for other in (noise.transpose(0, 3, 1, 2), noise[0], noise[0].transpose(2, 0, 1)):
        np.testing.assert_array_equal(ours.generate(ask(latents=other)).images, made.images)


def test_an_image_gives_its_size_or_is_scaled_to_what_is_asked(ours: Pipeline) -> None:
    for image, asked, size in (
        (photo(18, 23), {}, (16, 20)),
        (photo(32, 48), {"height": 16}, (16, 24)),
        (photo(32, 48), {"width": 24}, (16, 24)),
        (photo(32, 48), {"height": 16, "width": 16}, (16, 16)),
        (photo(3, 3), {"height": 16, "width": 16}, (16, 16)),
    ):
        request = ask(image=image, mask=image[..., 0] > 99, **asked)
        assert image_size(request, 4) == size
        images, masks = images_and_masks(request, *size)
        assert images.shape == (1, *size, 3) and masks.shape == (1, *size)
    assert np.array_equal(
        images_and_masks(ask(image=photo(18, 23)), 16, 20)[0][0], photo(18, 23)[1:17, 1:21]
    )
    assert ours.generate(ask(image=photo(20, 17))).images.shape == (1, 20, 16, 3)


def test_what_a_mask_leaves_is_the_image(ours: Pipeline) -> None:
    mask = np.zeros((16, 16), bool)
    mask[:, 8:] = True
    made = ours.generate(ask(image=photo(), mask=mask, strength=1.0))
    np.testing.assert_allclose(made.latents[0, :, :4], ours.encode(photo()[None])[0, :, :4])


def test_tiles_fade_into_each_other(ours: Pipeline) -> None:
    """Of noise, whose statistics are the same in every tile; edges of tiles are not seen."""
    model = nnx.merge(ours._whole, ours.params)
    z = jax.random.normal(jax.random.key(0), (1, 24, 40, 4))
    whole, tiled = (
        np.asarray(jax.jit(lambda z, tile=tile: decoding.decode(model.vae, z, tile=tile))(z))
        for tile in (0, 24)
    )
    assert tiled.shape == whole.shape == (1, 48, 80, 3)
    apart = np.abs(tiled - whole)
    assert apart.mean() < 0.1 * whole.std()
    assert np.corrcoef(tiled.ravel(), whole.ravel())[0, 1] > 0.99
    assert decoding.starts(40, 24) == [0, 16] and decoding.starts(8, 16) == [0]


def test_pixels_are_rounded_and_cut() -> None:
    values = jnp.asarray([-3.0, -1.0, -1 + 1.2 / 255, 0.0, 1 - 0.8 / 255, 1.0, 2.0])
    image = jnp.tile(values[None, None, :, None], (1, 1, 1, 3))
    assert decoding.to_uint8(image)[0, 0, :, 0].tolist() == [0, 0, 1, 128, 255, 255, 255]


def test_a_model_whose_own_sampler_is_unknown_has_the_others(ours: Pipeline) -> None:
    file = {**ours.scheduler, "_class_name": "EulerAncestralDiscreteScheduler"}
    other = Pipeline(ours.config, ours.params, ours.tokenizers, file, devices=jax.devices()[:1])
    assert other.scheduler_of("ddim") == ours.scheduler_of("ddim")
    with pytest.raises(ConfigError, match="EulerAncestral"):
        other.generate(ask(sampler=None))


def test_settings_name_a_sampler_that_can_be_asked_for(ours: Pipeline) -> None:
    assert ours.generate(ask(sampler=None, steps=3)).settings[0]["sampler"] == "pndm"
    assert ours.generate(ask(sampler="dpmpp-karras")).settings[0]["sampler"] == "dpmpp-karras"


def test_a_png_says_how_it_was_made(ours: Pipeline, tmp_path: Path) -> None:
    from PIL import Image

    made = ours.generate(ask(prompts="파란 가방", negative="흰 신발"))
    write_picture(tmp_path / "a.png", made.images[0], made.settings[0])
    assert read_settings(tmp_path / "a.png") == made.settings[0]
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), made.images[0])
        assert image.text["parameters"].startswith(
            "파란 가방\nNegative prompt: 흰 신발\nSteps: 4, Sampler: ddim, CFG scale: 3.0, Seed: 0"
        )
    Image.fromarray(made.images[0]).save(tmp_path / "b.png")
    with pytest.raises(DataError, match="holds no settings"):
        read_settings(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no")
    with pytest.raises(DataError, match="is no picture"):
        read_settings(tmp_path / "c.png")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompts": ()}, "no prompt"),
        ({"per_prompt": 0}, "per_prompt must be at least 1, got 0"),
        ({"guidance": float("nan")}, "guidance must be a number"),
        ({"negative": ("a", "b")}, "2 negative prompts for 1 prompts"),
        ({"seeds": (1, 2)}, "2 seeds for 1 pictures"),
        ({"seeds": -1}, "a seed is a whole number from 0"),
        ({"seeds": MOST_SEED, "per_prompt": 2}, "a seed is a whole number"),
        ({"seeds": 1.5}, "a seed is a whole number .* got 1.5"),
        ({"mask": np.ones((16, 16), bool)}, "give the image too"),
    ],
)
def test_requests_that_cannot_work_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ask(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"height": 18}, "height 18 does not divide by 4, .* take 16"),
        ({"width": 0}, "width 0 does not divide by 4, .* take 4"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
        ({"sampler": "dimm"}, "did you mean 'ddim'"),
        ({"sampler": "euler", "eta": 0.5}, "eta is 0.5, which only ddim knows"),
        ({"skip": 3}, r"skip \(--clip-skip\) is 3; .* 0 to 2"),
        ({"skip": -1}, "skip"),
        ({"latents": np.zeros((1, 8, 9, 4))}, "latents of"),
        ({"latents": "noise"}, "latents are an array of numbers"),
        ({"image": photo().astype(np.float32)}, r"\(H, W, 3\) uint8, got"),
        ({"image": photo()[..., 0]}, r"\(H, W, 3\) uint8, got"),
        ({"image": photo(3, 3)}, "the image is 3 x 3 pixels"),
        ({"image": np.stack([photo()] * 2)}, "2 images for 1 pictures"),
        ({"image": photo(), "mask": np.ones((8, 8), bool)}, "the mask is"),
        ({"image": photo(), "mask": np.ones((16, 16))}, "the mask is"),
        ({"image": photo(), "mask": np.ones((2, 16, 16), bool)}, "2 masks for 1 pictures"),
        ({"image": photo(), "strength": 0.1}, "less than one step"),
        ({"image": photo(), "strength": 1.5}, "strength is 1.5"),
    ],
)
def test_what_the_model_cannot_do_is_refused_before_anything_is_compiled(
    values: dict[str, Any], message: str, pipeline_of: Callable[..., Pipeline]
) -> None:
    ours = pipeline_of("sd1")
    before = ours.compiled
    with pytest.raises(UserError, match=message):
        ours.generate(ask(**values))
    assert ours.compiled == before


def test_tiles_and_models_that_are_not_there_are_refused(
    ours: Pipeline, pipeline_of: Callable[..., Pipeline], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="tile is a number of latents"):
        ours.generate(ask(), tile=-1)
    with pytest.raises(UserError, match="this UNet is for inpainting"):
        pipeline_of("inpainting").generate(ask())
    with pytest.raises(UserError, match="no model at"):
        load_pipeline(tmp_path / "nothing")
