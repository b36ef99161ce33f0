"""Whole pipelines, from prompts to pixels, with every sampler: small models, there and here."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kmm_jax.generation.loading import load_pipeline
from kmm_jax.generation.program import step_noise
from kmm_jax.generation.request import Request
from kmm_jax.generation.schedulers.config import SAMPLERS, to_file
from kmm_jax.text.tokenizer import Tokenizer
from tools.parity.compare import error
from tools.stable_diffusion import originals
from tools.stable_diffusion.originals import Kind

_PROMPTS = ("a photo of a red shirt", "빨간 셔츠 사진")
_NEGATIVE = "a blue bag"
_SEEDS = (7, 8)


@contextlib.contextmanager
def _noise_from_here(shape: tuple[int, int, int]) -> Iterator[None]:
    """Give diffusers' LCM the noise that ours draws: its own comes of another generator.

    Args:
        shape: of the latents, (h, w, Z).
    """
    module: Any = importlib.import_module("diffusers.schedulers.scheduling_lcm")
    torch, steps, own = importlib.import_module("torch"), itertools.count(), module.randn_tensor

    def drawn(*_: Any, **__: Any) -> Any:
        noise = step_noise(jnp.asarray(_SEEDS, jnp.uint32), jnp.int32(next(steps)), shape)
        return torch.from_numpy(np.array(noise).transpose(0, 3, 1, 2).copy())

    module.randn_tensor = drawn
    try:
        yield
    finally:
        module.randn_tensor = own


def _theirs(pipeline: Any, scheduler: Any, noise: np.ndarray, steps: int) -> tuple[Any, Any]:
    """Latents (B, Z, h, w) and pixels (B, H, W, 3) uint8 of diffusers."""
    library, torch = originals.diffusers(), importlib.import_module("torch")
    kind = getattr(library, scheduler["_class_name"])
    pipeline.scheduler = kind.from_config(scheduler)
    _, channels, height, width = noise.shape
    with torch.no_grad(), _noise_from_here((height, width, channels)):
        latents = pipeline(
            list(_PROMPTS),
            negative_prompt=[_NEGATIVE] * len(_PROMPTS),
            num_inference_steps=steps,
            guidance_scale=7.5,
            height=height * pipeline.vae_scale_factor,
            width=width * pipeline.vae_scale_factor,
            latents=torch.from_numpy(noise),
            output_type="latent",
        ).images
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
        images = pipeline.image_processor.postprocess(decoded, output_type="np")
    return latents.numpy(), (images * 255).round().astype(np.uint8)


def measured(
    kind: Kind, tokenizer: Tokenizer, *, steps: int = 10, samplers: Sequence[str] = SAMPLERS
) -> list[dict[str, Any]]:
    """A row for each sampler.

    The error of the latents relative to their scale, and the most that a pixel differs, of 255.
    """
    rows = []
    with tempfile.TemporaryDirectory() as place:
        original = originals.pipeline(Path(place), kind, sizes=originals.small, tokenizer=tokenizer)
        pipeline = load_pipeline(Path(place) / "model")
        height = pipeline.config.unet.sample_size
        noise = np.random.default_rng(0).standard_normal((len(_PROMPTS), 4, height, height // 2))
        noise = noise.astype(np.float32)
        for sampler in samplers:
            request = Request(
                prompts=_PROMPTS,
                negative=_NEGATIVE,
                sampler=sampler,
                steps=steps,
                height=height * pipeline.config.vae.factor,
                width=height * pipeline.config.vae.factor // 2,
                seeds=_SEEDS,
                latents=noise,
            )
            found = pipeline.generate(request)
            scheduler = to_file(pipeline.scheduler_of(sampler))
            latents, images = _theirs(original, scheduler, noise, steps)
            rows.append(
                {
                    "kind": kind,
                    "prediction": pipeline.scheduler.noise.prediction,
                    "sampler": sampler,
                    "class": scheduler["_class_name"],
                    "steps": steps,
                    "latents": error(found.latents.transpose(0, 3, 1, 2), latents),
                    "pixels": int(np.abs(found.images.astype(int) - images.astype(int)).max()),
                    "scale": float(np.abs(latents).max()),
                }
            )
    jax.clear_caches()
    return rows
