"""From a path to a generator in use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kmm_jax.errors import UserError
from kmm_jax.generation.pipeline import Pipeline
from kmm_jax.generation.runs import model_at
from kmm_jax.interop.diffusers.folder import DType
from kmm_jax.interop.diffusers.lora import merge


def load_pipeline(
    path: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    dtype: DType = "float32",
    variant: str | None = None,
    loras: Sequence[tuple[str | os.PathLike[str], float]] = (),
) -> Pipeline:
    """A text-to-image model ready for use.

    Args:
        path: Stable Diffusion 1.x, 2.x or XL in safetensors, as a folder that diffusers saves or
            as a single file of the original layout; or a run of this library that trained one.
        base: of a single file, a folder of the same kind, for the tokenizers, the sampler and what
            tensors do not show; by default the folder that the file lies in.
        dtype: of the networks. The sampler, guidance and timesteps are float32 whatever it is.
        variant: of the files, ``"fp16"`` say, where a folder holds several.
        loras: files with what is merged into the model, in turn, each with how much of it.

    Raises:
        UserError, DataError: no such model, pickles only, damaged, or not of a kind built here.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"no model at {place}")
    found = model_at(place, base=None if base is None else Path(base), dtype=dtype, variant=variant)
    for file, scale in loras:
        found = merge(found, Path(file), scale)
    return Pipeline(
        found.config,
        found.params,
        found.tokenizers,
        found.scheduler,
        zero_empty_negative=found.zero_empty_negative,
        name=place.name,
        loras=tuple(f"{Path(file).name}={scale:g}" for file, scale in loras),
    )
