"""A Stable Diffusion wherever it lies: a folder of diffusers, or a single file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.interop.diffusers import folder, single_file
from kmm_jax.interop.diffusers.folder import DType, Published
from kmm_jax.models.diffusion.config import VAEConfig


def open_model(
    path: str | Path,
    *,
    base: str | Path | None = None,
    dtype: DType = "float32",
    variant: str | None = None,
) -> Published:
    """The model in a folder of diffusers, or in a file of the original layout.

    Args:
        base: of a file, the folder that says what it does not: ``single_file.read``.
        dtype: of the parameters and the computation.
        variant: of a folder's files, where it holds several.

    Raises:
        UserError, DataError: as ``folder.read`` and ``single_file.read``.
    """
    place = Path(path)
    if place.is_file():
        return single_file.read(place, base=base, dtype=dtype, variant=variant)
    refuse_base(place, base)
    return folder.read(place, dtype=dtype, variant=variant)


def open_autoencoder(
    path: str | Path,
    *,
    base: str | Path | None = None,
    dtype: DType = "float32",
    variant: str | None = None,
) -> tuple[VAEConfig, dict[str, Any]]:
    """The autoencoder of a folder of diffusers, whole or its ``vae/`` alone, or of a file.

    Raises:
        UserError, DataError: as ``open_model``.
    """
    place = Path(path)
    if place.is_file():
        return single_file.read_autoencoder(place, base=base, dtype=dtype, variant=variant)
    refuse_base(place, base)
    return folder.read_autoencoder(place / "vae", dtype=dtype, variant=variant)


def refuse_base(path: Path, base: str | Path | None) -> None:
    """Raise where a base was named for what says everything itself.

    Raises:
        UserError: it was.
    """
    if base is not None:
        raise UserError(
            f"--base {base} goes with a single file, NAME{single_file.SUFFIX}; {path} is a folder, "
            "which holds its own tokenizer and sampler"
        )
