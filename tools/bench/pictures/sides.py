"""Both sides: a pipeline each from one folder, asked for the same pictures."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import time
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from kmm_jax.errors import require
from kmm_jax.generation.pipeline import Pipeline
from kmm_jax.generation.request import Request
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.training import hardware
from tools.bench.pictures.cases import GUIDANCE, PROMPT, Case
from tools.bench.torch_reference import open_clip_module


class Runner(Protocol):
    """One side, ready."""

    def pictures(self) -> np.ndarray:
        """A batch (B, H, W, 3), on the host."""
        ...

    def facts(self, seconds: float) -> dict[str, Any]:
        """What is known once a batch is found to take so long."""
        ...


def threads() -> int:
    """Of the processor's, for either side: XLA takes as many as this process may run on."""
    return len(os.sched_getaffinity(0))


class Ours:
    """The pipeline here, on one device."""

    def __init__(self, case: Case, folder: Path) -> None:
        model = folders.read(folder, dtype=case.dtype)
        self._device = jax.local_devices()[0]
        self._pipeline = Pipeline(
            model.config, model.params, model.tokenizers, model.scheduler, devices=[self._device]
        )
        self._case = case
        self._request = Request(
            prompts=(PROMPT,), per_prompt=case.batch, steps=case.steps, guidance=GUIDANCE
        )
        start = time.perf_counter()
        self.pictures()
        self._compile_seconds = time.perf_counter() - start

    def pictures(self) -> np.ndarray:
        """A batch, uint8."""
        return self._pipeline.generate(self._request).images

    def facts(self, seconds: float) -> dict[str, Any]:
        """Share of the device's peak in bfloat16, where that is known."""
        peak = hardware.peak_flops(self._device)
        flops = self._case.batch * self._case.flops_per_picture / seconds
        return {
            "first_seconds": self._compile_seconds,
            "share_of_peak": None if peak is None else flops / peak,
            "how": "",
        }


class Theirs:
    """The pipeline of diffusers, on the GPU where PyTorch has one."""

    def __init__(self, case: Case, folder: Path, *, compiled: bool) -> None:
        # Threads that spin at each other's barriers take a busy processor several times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        torch = self._torch = require("torch", extra="test")
        require("diffusers", extra="test")
        open_clip_module()  # makes torchvision importable, which transformers imports
        library: Any = importlib.import_module("diffusers")
        cuda = torch.cuda.is_available()
        if cuda:
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        else:
            torch.set_num_threads(threads())
        with contextlib.redirect_stderr(io.StringIO()):  # a bar for each part
            pipeline = library.StableDiffusionPipeline.from_pretrained(
                folder, dtype=getattr(torch, case.dtype)
            ).to("cuda" if cuda else "cpu")
        pipeline.set_progress_bar_config(disable=True)
        if cuda:
            pipeline.unet.to(memory_format=torch.channels_last)
            pipeline.vae.to(memory_format=torch.channels_last)
        if compiled:
            pipeline.unet = torch.compile(pipeline.unet)
            pipeline.vae.decode = torch.compile(pipeline.vae.decode)
        self._pipeline, self._case, self._compiled = pipeline, case, compiled
        start = time.perf_counter()
        self.pictures()
        self._compile_seconds = time.perf_counter() - start

    def pictures(self) -> np.ndarray:
        """A batch, float32."""
        with self._torch.no_grad():
            return self._pipeline(
                PROMPT,
                num_images_per_prompt=self._case.batch,
                num_inference_steps=self._case.steps,
                guidance_scale=GUIDANCE,
                generator=self._torch.Generator().manual_seed(0),
                output_type="np",
            ).images

    def facts(self, seconds: float) -> dict[str, Any]:
        """How it was run."""
        return {
            "first_seconds": self._compile_seconds,
            "share_of_peak": None,
            "how": "torch.compile" if self._compiled else "without torch.compile",
        }
