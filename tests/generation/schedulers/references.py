"""diffusers' schedulers, run on a denoiser that is a formula, and ours on the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kmm_jax.generation.schedulers.config import SchedulerConfig
from kmm_jax.generation.schedulers.sample import sample
from kmm_jax.generation.schedulers.table import Table

# What Stable Diffusion 1.5 ships as scheduler/scheduler_config.json.
SD15: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}

SHAPE = (2, 4, 4, 3)

# Our names, diffusers' classes, and what a name says beside its class.
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmpp": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
    "dpmpp-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}


def denoiser(library: Any) -> Any:
    """A smooth non-linear function of sample and time, in NumPy, JAX or torch."""

    def denoise(x: Any, t: Any) -> Any:
        return 0.7 * library.sin(0.9 * x + 0.004 * t) + 0.2 * library.cos(2 * x) * t / 1000

    return denoise


def start(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE)


def fresh(index: int) -> np.ndarray:
    """Noise of a step; by a formula, so that it can be made under jit as well."""
    return np.sin(np.arange(np.prod(SHAPE)).reshape(SHAPE) * 12.9898 + index * 78.233)


def reference(config: dict[str, Any], name: str) -> Any:
    """diffusers' scheduler of our sampler ``name``, switched to as its users do."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is a reference, not installed")
    pytest.importorskip("torch", reason="torch is a reference, not installed")
    class_name, says = CLASSES[name]
    # The class of the file reads it first: so its own defaults are told from what the file says.
    first = getattr(diffusers, config["_class_name"]).from_config(config)
    return getattr(diffusers, class_name).from_config(first.config, **says)


def run_reference(
    scheduler: Any, steps: int, *, strength: float | None = None, eta: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Time steps and result of diffusers' loop of text to image, or of image to image."""
    import torch

    scheduler.set_timesteps(steps)
    noise = torch.from_numpy(start())
    timesteps = scheduler.timesteps
    # Karras' levels may round to one time step twice; by their number none is passed over.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    if strength is None:
        begin = 0
        x = noise * scheduler.init_noise_sigma
    else:
        begin = max(steps - min(int(steps * strength), steps), 0)
        timesteps = timesteps[begin:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        x = scheduler.add_noise(torch.from_numpy(start(1)), noise, timesteps[:1].repeat(SHAPE[0]))
    denoise = denoiser(torch)
    for i, t in enumerate(timesteps):
        scaled = scheduler.scale_model_input(x, t)
        output = denoise(scaled, t.double())
        more: dict[str, Any] = {}
        if type(scheduler).__name__ == "DDIMScheduler" and eta:
            more = {"eta": eta, "variance_noise": torch.from_numpy(fresh(i))}
        with _noise_of_step(i):
            x = scheduler.step(output, t, x, **more, return_dict=False)[0]
    return timesteps.double().numpy(), x.double().numpy()


def _noise_of_step(i: int) -> Any:
    import torch
    from diffusers.schedulers import scheduling_lcm

    patch = pytest.MonkeyPatch()
    patch.setattr(
        scheduling_lcm, "randn_tensor", lambda *args, **kwargs: torch.from_numpy(fresh(i))
    )

    class Undo:
        def __enter__(self) -> None: ...

        def __exit__(self, *args: object) -> None:
            patch.undo()

    return Undo()


def run_ours(table: Table, *, from_image: bool = False) -> np.ndarray:
    noise = start()
    x = noise * table.initial_sigma
    if from_image:
        x = start(1) * table.start_signal + noise * table.start_sigma
    fresh_nBHWC = np.stack([fresh(i) for i in range(len(table))])
    return np.asarray(_sample(x, table, fresh_nBHWC))


@jax.jit
def _sample(x: jax.Array, table: Table, fresh_nBHWC: jax.Array) -> jax.Array:
    return sample(denoiser(jnp), x, table, noise=lambda index: fresh_nBHWC[index])


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, in units of the reference's largest number."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def load_in_diffusers(config: SchedulerConfig, said: dict[str, Any], folder: Path) -> Any:
    """diffusers' scheduler from the file that we write."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is a reference, not installed")
    (folder / "scheduler_config.json").write_text(json.dumps(said))
    return getattr(diffusers, config.sampler.class_name).from_pretrained(folder)
