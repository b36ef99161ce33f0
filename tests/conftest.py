"""What every test shares: the JAX compile cache and the folder of real data."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compiler import xla_flags

REPOSITORY = Path(__file__).resolve().parent.parent

# Eight fake devices, so that sharding is tested everywhere; set before anything imports JAX.
os.environ.setdefault("XLA_FLAGS", xla_flags(devices=8))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photos and Korean text, not part of the repository (named by KMM_SHARED_DATA)."""
    folder = Path(os.environ.get("KMM_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set KMM_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def stable_diffusion_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Small Stable Diffusions by their kind, each made once: a folder and diffusers' pipeline."""
    from tests import stable_diffusion

    @functools.cache
    def make(kind: str) -> stable_diffusion.Made:
        return stable_diffusion.made(tmp_path_factory.mktemp(f"diffusers-{kind}"), kind)

    return make


@pytest.fixture(scope="session")
def made(stable_diffusion_of: Callable[[str], Any]) -> Callable[[str], Path]:
    """The folder of a small Stable Diffusion by its kind, as diffusers saves it."""
    return lambda kind: Path(stable_diffusion_of(kind).folder)


@pytest.fixture(params=["sd1", "sd2", "sdxl"])
def folder(request: Any, made: Callable[[str], Path]) -> Path:
    """The folder of one of each kind."""
    return made(request.param)
