"""The whole pipeline beside diffusers': the same weights, prompts and noise, the same pictures."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.generation.pipeline import Pipeline
from kmm_jax.generation.program import _normal
from kmm_jax.generation.request import Request
from kmm_jax.generation.schedulers.config import SAMPLERS
from tests import stable_diffusion
from tests.generation.schedulers.references import CLASSES, relative_error

pytestmark = pytest.mark.usefixtures("exact")

PROMPTS = ("a photo of a red shirt", "파란 가방을 찍은 사진")
NEGATIVES = ("a blue bag", "white shoe")
SEEDS = (3, 11)
CLOSE = 1e-4
SIDE = 16


@pytest.fixture(params=["sd1", "sd2", "sdxl"])
def kind(request: Any) -> str:
    return str(request.param)


def of_torch(array: Any) -> np.ndarray:
    return np.asarray(array.detach().permute(0, 2, 3, 1))


def to_torch(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1)))


def noise(stream: int, index: int, side: int = SIDE // 2) -> np.ndarray:
    """What our generator draws for the two pictures: stream 0 to begin with, stream 1 at steps."""
    seeds = jnp.asarray(SEEDS, jnp.uint32)
    return np.asarray(_normal(seeds, stream, jnp.uint32(index), (side, side, 4)))


def asked(**more: Any) -> Request:
    options = {"prompts": PROMPTS, "negative": NEGATIVES, "seeds": SEEDS, "guidance": 3.0}
    return Request(**{**options, **more})


@pytest.fixture
def their_noise(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets diffusers draw what our generator draws; call it before each pipeline runs."""
    library = stable_diffusion.diffusers()
    from diffusers.pipelines.stable_diffusion import (
        pipeline_stable_diffusion_img2img as image_to_image,
    )
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint as inpainting
    from diffusers.schedulers import scheduling_ddim, scheduling_lcm

    assert library is not None

    def start() -> None:
        steps: Iterator[int] = itertools.count()

        def begin(*args: Any, **kwargs: Any) -> Any:
            return to_torch(noise(0, 0))

        def step(*args: Any, **kwargs: Any) -> Any:
            return to_torch(noise(1, next(steps)))

        for module in (image_to_image, inpainting):
            monkeypatch.setattr(module, "randn_tensor", begin)
        for module in (scheduling_ddim, scheduling_lcm):
            monkeypatch.setattr(module, "randn_tensor", step)

    return start


def sampler_of_theirs(pipeline: Any, name: str, kind: str) -> Any:
    class_name, says = CLASSES[name]
    file = {**stable_diffusion.scheduler_file(pipeline), **says}
    if kind not in ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"):
        file["clip_sample"] = False  # the others see to it that latents are not clipped
    return getattr(stable_diffusion.diffusers(), class_name).from_config(file)


def theirs(pipeline: Any, name: str, *, kind: str = "", **options: Any) -> np.ndarray:
    """The latents that diffusers makes."""
    import torch

    library = stable_diffusion.diffusers()
    kind = kind or type(pipeline).__name__
    parts = {**pipeline.components, "scheduler": sampler_of_theirs(pipeline, name, kind)}
    whole = getattr(library, kind)(
        **parts, **({} if "XL" in type(pipeline).__name__ else {"requires_safety_checker": False})
    )
    whole.set_progress_bar_config(disable=True)
    given = {
        "prompt": list(PROMPTS),
        "negative_prompt": list(NEGATIVES),
        "guidance_scale": 3.0,
        "output_type": "latent",
    }
    with torch.no_grad():
        return of_torch(whole(**{**given, **options}).images)


def decoded_by_theirs(pipeline: Any, latents: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        scaled = to_torch(latents) / pipeline.vae.config.scaling_factor
        return of_torch(pipeline.vae.decode(scaled).sample)


@functools.partial(jax.jit, static_argnums=0)
def decode(graphdef: Any, params: Any, latents: Any) -> Any:
    return nnx.merge(graphdef, params).vae.decode(latents)


def decoded_by_ours(pipeline: Pipeline, latents: np.ndarray) -> np.ndarray:
    return np.asarray(decode(pipeline._whole, pipeline.params, latents))


def evaluations(name: str) -> int:
    """Steps for four evaluations of the UNet: so all samplers share one program."""
    return 3 if name == "pndm" else 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_text_to_image(
    kind: str, name: str, stable_diffusion_of: Any, pipeline_of: Any, their_noise: Any
) -> None:
    ours, reference = pipeline_of(kind), stable_diffusion_of(kind).pipeline
    made = ours.generate(asked(sampler=name, steps=evaluations(name)))
    their_noise()
    latents = theirs(
        reference,
        name,
        latents=to_torch(noise(0, 0)),
        num_inference_steps=evaluations(name),
        height=SIDE,
        width=SIDE,
    )
    assert relative_error(made.latents, latents) < CLOSE
    pixels, expected = decoded_by_ours(ours, made.latents), decoded_by_theirs(reference, latents)
    assert relative_error(pixels, expected) < CLOSE
    levels = np.round(np.clip(expected / 2 + 0.5, 0, 1) * 255)
    assert np.abs(made.images - levels).max() <= 1
    assert np.mean(made.images == levels) > 0.99


def test_ddim_with_fresh_noise(
    stable_diffusion_of: Any, pipeline_of: Any, their_noise: Any
) -> None:
    made = pipeline_of("sd1").generate(asked(sampler="ddim", steps=4, eta=0.7))
    their_noise()
    latents = theirs(
        stable_diffusion_of("sd1").pipeline,
        "ddim",
        latents=to_torch(noise(0, 0)),
        num_inference_steps=4,
        eta=0.7,
        height=SIDE,
        width=SIDE,
    )
    assert relative_error(made.latents, latents) < CLOSE


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def mask() -> np.ndarray:
    found = np.zeros((SIDE, SIDE), bool)
    found[3:11, 4:] = True
    return found


def encoded_by_theirs(pipeline: Any, pixels: np.ndarray) -> Any:
    """Latents (1, 4, h, w) at the mean, of pixels from -1 to 1."""
    import torch

    with torch.no_grad():
        image = to_torch(pixels[None].astype(np.float32))
        return pipeline.vae.encode(image).latent_dist.mode() * pipeline.vae.config.scaling_factor


@pytest.mark.parametrize(
    ("name", "steps", "strength"),
    [
        ("ddim", 8, 0.5),
        ("pndm", 6, 0.5),
        ("euler", 4, 1.0),
        ("dpmpp", 10, 0.45),
        ("dpmpp-karras", 8, 0.5),
        ("unipc", 5, 0.8),
        ("lcm", 8, 0.5),
    ],
)
def test_image_to_image(
    name: str,
    steps: int,
    strength: float,
    stable_diffusion_of: Any,
    pipeline_of: Any,
    their_noise: Any,
) -> None:
    reference = stable_diffusion_of("sd1").pipeline
    made = pipeline_of("sd1").generate(
        asked(sampler=name, steps=steps, image=photo(), strength=strength)
    )
    image = encoded_by_theirs(reference, photo() / 127.5 - 1)
    their_noise()
    latents = theirs(
        reference,
        name,
        kind="StableDiffusionImg2ImgPipeline",
        image=image.repeat(2, 1, 1, 1),
        strength=strength,
        num_inference_steps=steps,
    )
    assert relative_error(made.latents, latents) < CLOSE


@pytest.mark.parametrize("kind", ["sd1", "inpainting"])
@pytest.mark.parametrize(
    ("name", "steps", "strength"),
    [("ddim", 4, 1.0), ("pndm", 6, 0.5), ("euler", 8, 0.5), ("dpmpp-karras", 4, 1.0)],
)
def test_inpainting(
    kind: str,
    name: str,
    steps: int,
    strength: float,
    stable_diffusion_of: Any,
    pipeline_of: Any,
    their_noise: Any,
) -> None:
    """By a UNet that knows nothing of it, and by one that sees mask and picture."""
    import torch

    reference = stable_diffusion_of(kind).pipeline
    made = pipeline_of(kind).generate(
        asked(sampler=name, steps=steps, image=photo(), mask=mask(), strength=strength)
    )
    pixels = photo() / 127.5 - 1
    their_noise()
    latents = theirs(
        reference,
        name,
        kind="StableDiffusionInpaintPipeline",
        image=encoded_by_theirs(reference, pixels),
        mask_image=torch.from_numpy(mask()[None, None].astype(np.float32)),
        masked_image_latents=encoded_by_theirs(reference, np.where(mask()[..., None], 0, pixels)),
        strength=strength,
        num_inference_steps=steps,
        height=SIDE,
        width=SIDE,
    )
    assert relative_error(made.latents, latents) < CLOSE


def test_clip_skip(stable_diffusion_of: Any, pipeline_of: Any) -> None:
    """diffusers 0.42 cannot beside transformers 5: its sequences are made by hand."""
    import torch

    reference = stable_diffusion_of("sd1").pipeline
    encoder = reference.text_encoder

    def states(texts: tuple[str, ...]) -> Any:
        ids = reference.tokenizer(
            list(texts), padding="max_length", max_length=20, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            hidden = encoder(ids, output_hidden_states=True).hidden_states[-2]
            norm = getattr(encoder, "text_model", encoder).final_layer_norm
            return norm(hidden)

    made = pipeline_of("sd1").generate(asked(sampler="ddim", steps=4, skip=1))
    latents = theirs(
        reference,
        "ddim",
        prompt=None,
        negative_prompt=None,
        prompt_embeds=states(PROMPTS),
        negative_prompt_embeds=states(NEGATIVES),
        latents=to_torch(noise(0, 0)),
        num_inference_steps=4,
        height=SIDE,
        width=SIDE,
    )
    assert relative_error(made.latents, latents) < CLOSE


def test_an_embedded_guidance_scale(
    stable_diffusion_of: Any, pipeline_of: Any, their_noise: Any
) -> None:
    """A latent consistency model is told the scale and runs once for a picture."""
    made = pipeline_of("lcm").generate(asked(sampler="lcm", steps=4, guidance=8.0, negative=None))
    their_noise()
    latents = theirs(
        stable_diffusion_of("lcm").pipeline,
        "lcm",
        guidance_scale=8.0,
        negative_prompt=None,
        latents=to_torch(noise(0, 0)),
        num_inference_steps=4,
        height=SIDE,
        width=SIDE,
    )
    assert relative_error(made.latents, latents) < CLOSE


@pytest.mark.parametrize("negative", [None, ""])
def test_sdxl_tells_no_negative_prompt_from_an_empty_one(
    negative: str | None, stable_diffusion_of: Any, pipeline_of: Any
) -> None:
    made = pipeline_of("sdxl").generate(asked(sampler="ddim", steps=4, negative=negative))
    latents = theirs(
        stable_diffusion_of("sdxl").pipeline,
        "ddim",
        negative_prompt=negative if negative is None else [negative] * 2,
        latents=to_torch(noise(0, 0)),
        num_inference_steps=4,
        height=SIDE,
        width=SIDE,
    )
    assert relative_error(made.latents, latents) < CLOSE
