"""What every test shares: the JAX compile cache and the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

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
